"""A service that is written with masstransitpython-byQ96, and knows nothing of saga-core: sends one message, reads one,
or reads one and sends another because of it."""

import json
import sys
import threading
from urllib.parse import unquote, urlparse

from masstransitpython import RabbitMQConfiguration, RabbitMQReceiver, RabbitMQSender
from pika import PlainCredentials

PATIENCE = 60  # seconds that a message is waited for
USAGE = """usage:
  peer.py send URL EXCHANGE MESSAGE REQUEST     REQUEST: what the library takes ids and addresses from
  peer.py read URL EXCHANGE QUEUE               prints the body of the next message
  peer.py answer URL EXCHANGE QUEUE TO MESSAGE  reads one, and publishes MESSAGE in answer to it"""


def configuration(url, queue):
    at = urlparse(url)
    credentials = PlainCredentials(unquote(at.username), unquote(at.password))
    virtual_host = unquote(at.path[1:]) or "/"
    return RabbitMQConfiguration(credentials, queue=queue, host=at.hostname, port=at.port, virtual_host=virtual_host)


def publish(url, exchange, message, request):
    # A sender declares a queue, whether it is of use or not.
    with RabbitMQSender(configuration(url, "python-sender")) as sender:
        sender.set_exchange(exchange)
        sender.publish(message=sender.create_masstransit_response(message, request))


def read(url, exchange, queue):
    bodies = []

    def handler(channel, _method, _properties, body):
        bodies.append(body.decode())
        channel.stop_consuming()

    receiver = RabbitMQReceiver(configuration(url, queue), exchange)
    receiver.add_on_message_callback(handler)
    consuming = threading.Thread(target=receiver.start_consuming, daemon=True)
    consuming.start()
    print(f"listening to {exchange}", file=sys.stderr, flush=True)
    consuming.join(PATIENCE)
    if not bodies:
        sys.exit(f"nothing came from {exchange} within {PATIENCE} s")
    return bodies[0]


def main(arguments):
    match arguments:
        case ["send", url, exchange, message, request]:
            publish(url, exchange, json.loads(message), json.loads(request))
        case ["read", url, exchange, queue]:
            print(read(url, exchange, queue))
        case ["answer", url, exchange, queue, to, message]:
            publish(url, to, json.loads(message), json.loads(read(url, exchange, queue)))
        case _:
            sys.exit(USAGE)


main(sys.argv[1:])
