"""What every HTTP endpoint of a service gets: CORS, problems, forwarded headers, health, docs."""
