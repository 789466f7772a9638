"""The learning task, which server, clients and attackers all know: columns, networks and loss."""
