"""Configuration of load balancers for servers of yais: Envoy's and HAProxy's. Balancing itself is theirs."""
