"""Who is it: SASL exchanges, password schemes, and the verifier that keeps hashing off the event loop."""
