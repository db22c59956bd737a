"""Messages of the services that the gateway itself offers: ``.proto`` files, and what
``make proto`` makes of them. The folders are those of the packages, as ``protoc`` wants them."""
