#!/usr/bin/python3
"""Sends back what each connection says: echo_server.py ADDRESS PORT. Runs until it is killed."""

import socketserver
import sys


class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(65536):
            self.request.sendall(data)


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address, daemon_threads = True, True


Server((sys.argv[1], int(sys.argv[2])), Echo).serve_forever()
