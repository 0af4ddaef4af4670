"""The interceptors that yais ships; `yais.rpc.interceptor` says what an interceptor is."""
