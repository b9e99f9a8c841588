"""
Continue a conversation, whichever API it came through.
"""

from __future__ import annotations

from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest

from kiroworkers.chat import Conversation
from kiroworkers.errors import ErrorCode, WorkError
from kiroworkers.execution import execute, within_deadline
from kiroworkers.offload.call import Runner
from kiroworkers.pool.agent_groups import AgentGroup
from kiroworkers.pool.dispatcher import RequestOptions
from kiroworkers.web.chat.models import ChatModels
from kiroworkers.web.chat.stream import ReplyStream, ReplyWriter
from kiroworkers.web.errors import (
    INTERNAL_ERROR,
    HttpError,
    error_json,
    log_internal_error,
    respond,
    respond_to_error,
)
from kiroworkers.web.headers import answer_headers, set_agent_header, set_headers, set_usage_headers
from kiroworkers.web.request_options import check_model, request_options

#: The error of a stream whose text was sent and is not the beginning of the valid answer.
_TAKEN_BACK = HttpError(
    ErrorCode.TAKEN_BACK,
    "The agent was asked again and gave a different answer after part of the first one had been "
    "sent",
)


class ConversationHandler:
    """
    Ask agents for the next message of conversations.

    Args:
        clock: Measures durations and times keep-alive comments.
        models: The models that clients may name.
        offload: Runs checks of answers and of clients' schemas that may take long.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime, models: ChatModels, offload: Runner) -> None:
        self._clock = clock
        self._models = models
        self._offload = offload

    async def respond(
        self,
        request: IRequest,
        client: str,
        conversation: Conversation,
        writer: ReplyWriter,
        *,
        streams: bool,
    ) -> bytes:
        """
        Respond with the next message of `conversation`.

        Args:
            request: The request to respond to.
            client: The client that sent it.
            conversation: The conversation, whose schema has not been checked.
            writer: Writes the reply and errors of a stream in the API's format.
            streams: Whether the client wants a stream.

        Raises:
            HttpError: There is no such model.
            InvalidInput: A header or the client's schema is invalid.
            WorkError: The agent was not asked.
        """
        group, model = self._models.resolve(conversation.model)
        if model:
            check_model(group, model, "model")
        options = request_options(request, client, "chat", model=model)
        if conversation.schema_check is not None:
            check = self._offload(conversation.schema_check, client, refusable=True)
            _, options = await within_deadline(check, options, self._clock)
        set_agent_header(request, group.name)
        set_usage_headers(request)
        if streams:
            return await self._stream(request, group, conversation, options, writer)
        try:
            result = await execute(group, conversation, {}, options, offload=self._offload)
        except WorkError as error:
            return respond_to_error(request, error, group.dispatcher.queue())
        set_headers(request, answer_headers(result, model))
        return respond(request, 200, writer.whole(conversation.reply(result.answer.value)))

    async def _stream(
        self,
        request: IRequest,
        group: AgentGroup,
        conversation: Conversation,
        options: RequestOptions,
        writer: ReplyWriter,
    ) -> bytes:
        # A terminal is read line by line, and a reply is one line of JSON.
        is_protocol = group.agent.dialect.transport == "acp"
        incremental = conversation.can_stream_incrementally and is_protocol
        stream = ReplyStream(self._clock, request, writer, incremental)
        try:
            result = await execute(
                group, conversation, {}, options, stream.on_progress, self._offload
            )
            if not await stream.finish(conversation.reply(result.answer.value)):
                await stream.fail(*error_json(_TAKEN_BACK))
        except WorkError as error:
            if not stream.started:
                return respond_to_error(request, error, group.dispatcher.queue())
            prompted = options.record.prompted
            status, body = error_json(error, group.dispatcher.queue(), prompted=prompted)
            await stream.fail(status, body)
        except CancelledError:
            # The client closed the connection.
            raise
        except Exception:
            if not stream.started:
                raise
            log_internal_error(self._log, request, Failure())
            await stream.fail(*error_json(INTERNAL_ERROR))
        finally:
            stream.close()
        return b""
