"""gRPC with grpcio, Google's implementation: reflection, calls and streams."""

import random
import unittest

import grpc
import world
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

ECHO = "sandgate.demo.v1.Echo"
SECONDS = 20


class WithMetadata(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor,
                   grpc.StreamUnaryClientInterceptor, grpc.StreamStreamClientInterceptor):
    """Adds headers to every call of a channel, because the reflection client has no parameter for them."""

    def __init__(self, *metadata):
        self.metadata = metadata

    def intercept(self, continuation, details, request):
        details = details._replace(metadata=[*(details.metadata or ()), *self.metadata])
        return continuation(details, request)

    intercept_unary_unary = intercept_unary_stream = intercept
    intercept_stream_unary = intercept_stream_stream = intercept


class GrpcTest(unittest.TestCase):
    """grpcio"""

    @classmethod
    def setUpClass(cls):
        cls.here = world.current
        cls.name = f"grpc-{random.randrange(10**9)}"
        cls.here.sandbox(cls.name, exposed_ports=[50051])
        cls.key = ("authorization", f"Bearer {cls.here.api_key}")

    def channel(self, *metadata, port=50051):
        host = self.here.host(f"{port}-{self.name}")
        if self.here.s:
            channel = grpc.secure_channel(f"{host}:443", grpc.ssl_channel_credentials(self.here.authority.read_bytes()))
        elif self.here.names_resolve:
            channel = grpc.insecure_channel(f"{host}:80")
        else:
            channel = grpc.insecure_channel(f"127.0.0.1:{self.here.ports['edge']}", [("grpc.default_authority", host)])
        self.addCleanup(channel.close)
        return grpc.intercept_channel(channel, WithMetadata(*metadata))

    def service(self, channel):
        """The echo service and its message types, found by reflection."""
        pool = DescriptorPool(ProtoReflectionDescriptorDatabase(channel))
        return pool.FindServiceByName(ECHO)

    def method(self, channel, name):
        """(a callable for that method, the class of its requests)"""
        method = self.service(channel).methods_by_name[name]
        kind = {(False, False): channel.unary_unary, (False, True): channel.unary_stream,
                (True, False): channel.stream_unary, (True, True): channel.stream_stream}
        request = GetMessageClass(method.input_type)
        call = kind[method.client_streaming, method.server_streaming](
            f"/{ECHO}/{name}", request.SerializeToString, GetMessageClass(method.output_type).FromString)
        return call, request

    def test_reflection_lists_the_services(self):
        services = ProtoReflectionDescriptorDatabase(self.channel(self.key)).get_services()
        self.assertIn(ECHO, services)
        self.assertIn("grpc.health.v1.Health", services)

    def test_echo_answers_and_does_not_see_the_credential(self):
        call, request = self.method(self.channel(self.key, ("x-own", "kept")), "Echo")
        reply = call(request(message="hello"), timeout=SECONDS)
        self.assertEqual((reply.message, reply.call.sandbox_name), ("hello", self.name))
        metadata = {item.key: item.value for item in reply.call.metadata}
        self.assertEqual((metadata.get("x-own"), metadata.get("authorization")), ("kept", None))

    def test_a_personal_access_token_works_with_organization_and_project(self):
        pat = ("authorization", f"Bearer {self.here.pat}")
        context = (("x-forwarded-organization-id", self.here.organization), ("x-forwarded-project-id", self.here.project))
        self.assertIn(ECHO, ProtoReflectionDescriptorDatabase(self.channel(pat, *context)).get_services())

    def test_messages_go_both_ways_in_one_stream(self):
        call, request = self.method(self.channel(self.key), "BidiStream")
        messages = [f"message {number}" for number in range(100)]
        replies = call((request(message=message) for message in messages), timeout=SECONDS)
        self.assertEqual([reply.message for reply in replies], messages)

    def test_ten_megabytes_come_back_unchanged(self):
        call, request = self.method(self.channel(self.key), "ServerStream")
        message = "m" * (1 << 20)
        replies = list(call(request(message=message, count=10), timeout=SECONDS))
        self.assertEqual([reply.message == message for reply in replies], [True] * 10)

    def test_denials_are_grpc_statuses(self):
        for metadata, port, expected in (
                ((), 50051, grpc.StatusCode.UNAUTHENTICATED),
                ((("authorization", "Bearer tl_apiKey_wrong"),), 50051, grpc.StatusCode.UNAUTHENTICATED),
                ((self.key,), 50052, grpc.StatusCode.PERMISSION_DENIED)):
            with self.subTest(expected=expected, port=port), self.assertRaises(grpc.RpcError) as refused:
                ProtoReflectionDescriptorDatabase(self.channel(*metadata, port=port)).get_services()
            self.assertEqual(refused.exception.code(), expected, refused.exception)
