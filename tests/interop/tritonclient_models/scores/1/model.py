class Model:
    def execute(self, inputs):
        return {"SAME": inputs["SCORES"]}
