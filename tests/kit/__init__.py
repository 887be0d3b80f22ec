"""What tests share: real servers, stores, clients and posts."""
