"""Detection by a model server, over REST or gRPC."""
