"""Load for servers, and what came of it: schedules, loops, recordings, objectives, reports."""
