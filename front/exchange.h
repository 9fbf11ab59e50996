/*
 * exchange.h: one client request for tokens, from its complete body to its end. Inside the room only.
 *
 * An exchange owns the request's preparation, its handle at the backend, the text that was made and the
 * bytes that the client has not taken. What happens is one of the events below; what it means is in
 * the table, and each exchange reaches ENDED exactly once.
 */
#ifndef TANDEM_FRONT_EXCHANGE_H
#define TANDEM_FRONT_EXCHANGE_H

#include "front/internal.h"
#include "lib/api/refusals.h"
#include "lib/base/fsm.h"

/* clang-format off */
#define EXCHANGE_STATES(X, P) \
    X(P, PREPARING, work,    "being read, rendered and tokenized; each job's work is bounded") \
    X(P, WAITING,   backend, "the backend has the tokens; nothing came back yet") \
    X(P, ANSWERING, backend, "tokens come") \
    X(P, STOPPING,  backend, "a stop string was found; the backend's end is awaited for the usage") \
    X(P, FLUSHING,  stall,   "all is said; the client has to take it") \
    X(P, ENDED,     none,    "gone")

#define EXCHANGE_EVENTS(X, P) \
    X(P, REFUSED,    "the request cannot be served: malformed, too long, no capacity") \
    X(P, PREPARED,   "the prompt's token ids are there") \
    X(P, TOKENS,     "the backend has new tokens") \
    X(P, STOP_FOUND, "the text contains a stop string") \
    X(P, FINISHED,   "the backend ended the answer in order") \
    X(P, BROKEN,     "the backend could not, or not to the end") \
    X(P, SILENCE,    "nothing was sent for ping_ms") \
    X(P, WRITABLE,   "the client's socket takes bytes again") \
    X(P, WRITTEN,    "no byte is left to be written") \
    X(P, OVERFLOW,   "the client is too slow, or there is no memory for its text") \
    X(P, GONE,       "the client has left, or the front closes")

#define EXCHANGE_ACTIONS(X, P) \
    X(P, START,  "hand the tokens to the backend") \
    X(P, REFUSE, "answer with an error") \
    X(P, TAKE,   "tokens to text; send what may be shown") \
    X(P, STOP,   "tell the backend that it is enough") \
    X(P, FINISH, "send the rest with finish reason and usage") \
    X(P, BREAK,  "answer with an error, or send it as the last event of the stream") \
    X(P, PING,   "send a comment, with the head if need be") \
    X(P, FLUSH,  "write what waits") \
    X(P, END,    "end the answer and let go") \
    X(P, CUT,    "abandon the backend and break the connection") \
    X(P, DROP,   "abandon the backend or the preparation and let go")

#define EXCHANGE_CELLS(X, P) \
    X(P, PREPARING, REFUSED,    ENDED,     REFUSE, "") \
    X(P, PREPARING, PREPARED,   WAITING,   START,  "") \
    X(P, PREPARING, TOKENS,     PREPARING, BUG,    "the backend knows nothing of it") \
    X(P, PREPARING, STOP_FOUND, PREPARING, BUG,    "") \
    X(P, PREPARING, FINISHED,   PREPARING, BUG,    "") \
    X(P, PREPARING, BROKEN,     PREPARING, BUG,    "") \
    X(P, PREPARING, SILENCE,    PREPARING, BUG,    "the clock of silence starts later") \
    X(P, PREPARING, WRITABLE,   PREPARING, BUG,    "nothing was written") \
    X(P, PREPARING, WRITTEN,    PREPARING, BUG,    "") \
    X(P, PREPARING, OVERFLOW,   PREPARING, BUG,    "") \
    X(P, PREPARING, GONE,       ENDED,     DROP,   "the pool may go on with the job; nobody waits for it") \
    X(P, WAITING,   REFUSED,    ENDED,     REFUSE, "the backend did not take it") \
    X(P, WAITING,   PREPARED,   WAITING,   BUG,    "") \
    X(P, WAITING,   TOKENS,     ANSWERING, TAKE,   "the head is sent here, unless a ping was first") \
    X(P, WAITING,   STOP_FOUND, WAITING,   BUG,    "") \
    X(P, WAITING,   FINISHED,   FLUSHING,  FINISH, "an answer without text") \
    X(P, WAITING,   BROKEN,     FLUSHING,  BREAK,  "a real HTTP status, unless a ping was first") \
    X(P, WAITING,   SILENCE,    WAITING,   PING,   "") \
    X(P, WAITING,   WRITABLE,   WAITING,   FLUSH,  "") \
    X(P, WAITING,   WRITTEN,    WAITING,   BUG,    "") \
    X(P, WAITING,   OVERFLOW,   ENDED,     CUT,    "") \
    X(P, WAITING,   GONE,       ENDED,     DROP,   "") \
    X(P, ANSWERING, REFUSED,    ANSWERING, BUG,    "") \
    X(P, ANSWERING, PREPARED,   ANSWERING, BUG,    "") \
    X(P, ANSWERING, TOKENS,     ANSWERING, TAKE,   "") \
    X(P, ANSWERING, STOP_FOUND, STOPPING,  STOP,   "") \
    X(P, ANSWERING, FINISHED,   FLUSHING,  FINISH, "") \
    X(P, ANSWERING, BROKEN,     FLUSHING,  BREAK,  "") \
    X(P, ANSWERING, SILENCE,    ANSWERING, PING,   "") \
    X(P, ANSWERING, WRITABLE,   ANSWERING, FLUSH,  "") \
    X(P, ANSWERING, WRITTEN,    ANSWERING, BUG,    "") \
    X(P, ANSWERING, OVERFLOW,   ENDED,     CUT,    "") \
    X(P, ANSWERING, GONE,       ENDED,     DROP,   "") \
    X(P, STOPPING,  REFUSED,    STOPPING,  BUG,    "") \
    X(P, STOPPING,  PREPARED,   STOPPING,  BUG,    "") \
    X(P, STOPPING,  TOKENS,     STOPPING,  IGNORE, "made before the stop arrived") \
    X(P, STOPPING,  STOP_FOUND, STOPPING,  BUG,    "") \
    X(P, STOPPING,  FINISHED,   FLUSHING,  FINISH, "") \
    X(P, STOPPING,  BROKEN,     FLUSHING,  FINISH, "the answer is whole, whatever happened behind it") \
    X(P, STOPPING,  SILENCE,    STOPPING,  PING,   "") \
    X(P, STOPPING,  WRITABLE,   STOPPING,  FLUSH,  "") \
    X(P, STOPPING,  WRITTEN,    STOPPING,  BUG,    "") \
    X(P, STOPPING,  OVERFLOW,   ENDED,     CUT,    "") \
    X(P, STOPPING,  GONE,       ENDED,     DROP,   "") \
    X(P, FLUSHING,  REFUSED,    FLUSHING,  BUG,    "") \
    X(P, FLUSHING,  PREPARED,   FLUSHING,  BUG,    "") \
    X(P, FLUSHING,  TOKENS,     FLUSHING,  BUG,    "the backend has ended") \
    X(P, FLUSHING,  STOP_FOUND, FLUSHING,  BUG,    "") \
    X(P, FLUSHING,  FINISHED,   FLUSHING,  BUG,    "the backend ends once") \
    X(P, FLUSHING,  BROKEN,     FLUSHING,  BUG,    "the backend ends once") \
    X(P, FLUSHING,  SILENCE,    FLUSHING,  IGNORE, "it is the client that is slow") \
    X(P, FLUSHING,  WRITABLE,   FLUSHING,  FLUSH,  "") \
    X(P, FLUSHING,  WRITTEN,    ENDED,     END,    "") \
    X(P, FLUSHING,  OVERFLOW,   ENDED,     CUT,    "") \
    X(P, FLUSHING,  GONE,       ENDED,     DROP,   "") \
    X(P, ENDED,     REFUSED,    ENDED,     BUG,    "it is freed") \
    X(P, ENDED,     PREPARED,   ENDED,     BUG,    "") \
    X(P, ENDED,     TOKENS,     ENDED,     BUG,    "") \
    X(P, ENDED,     STOP_FOUND, ENDED,     BUG,    "") \
    X(P, ENDED,     FINISHED,   ENDED,     BUG,    "") \
    X(P, ENDED,     BROKEN,     ENDED,     BUG,    "") \
    X(P, ENDED,     SILENCE,    ENDED,     BUG,    "") \
    X(P, ENDED,     WRITABLE,   ENDED,     BUG,    "") \
    X(P, ENDED,     WRITTEN,    ENDED,     BUG,    "") \
    X(P, ENDED,     OVERFLOW,   ENDED,     BUG,    "") \
    X(P, ENDED,     GONE,       ENDED,     BUG,    "")
/* clang-format on */

TD_FSM_DECLARE(exchange, EXCHANGE);

/* Takes a request whose body is complete; answers it now or later. */
void front_exchange_open(struct front *front, struct http_request *request,
                         enum api_surface surface);

#endif
