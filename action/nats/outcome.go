package nats

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	client "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/fraiseql/observer"
)

// tooLarge is the code of a stream's answer to a message above its limit.
const tooLarge jetstream.ErrorCode = 10054

// unconnected judges a failure to connect: nothing was published.
func unconnected(err error) error {
	wrapped := fmt.Errorf("connect: %w", err)
	for _, refusal := range []error{
		client.ErrAuthorization, client.ErrAuthExpired, client.ErrAuthRevoked, client.ErrAccountAuthExpired,
	} {
		if errors.Is(err, refusal) {
			return observer.Permanent(observer.ReasonPermanent, wrapped)
		}
	}
	return wrapped
}

// judge says what a failure to publish means. Nobody knows of a message that was
// sent and neither acknowledged nor refused.
func judge(ctx context.Context, err error) error {
	if answer, ok := errors.AsType[*jetstream.APIError](err); ok {
		return refused(answer)
	}
	cause := context.Cause(ctx)
	switch {
	case errors.Is(err, jetstream.ErrNoStreamResponse), errors.Is(err, client.ErrNoResponders):
		return errors.New("no stream takes this subject (make one, or write ack = \"none\")")
	case errors.Is(err, client.ErrMaxPayload):
		return observer.Permanent(observer.ReasonTooLarge, err)
	case errors.Is(err, client.ErrBadSubject), errors.Is(err, client.ErrHeadersNotSupported):
		return observer.Permanent(observer.ReasonPermanent, err)
	case errors.Is(err, client.ErrPermissionViolation):
		return observer.Permanent(observer.ReasonPermanent, err)
	case errors.Is(cause, client.ErrPermissionViolation):
		return observer.Permanent(observer.ReasonPermanent, cause)
	case cause != nil:
		err = cause
	}
	return observer.OutcomeUnknown(fmt.Errorf("no acknowledgment: %w", err))
}

// refused judges the answer of a stream: it has not stored the message.
func refused(answer *jetstream.APIError) error {
	err := fmt.Errorf("the stream refused it: %s (%d, %d)", answer.Description, answer.Code, answer.ErrorCode)
	switch {
	case answer.ErrorCode == tooLarge:
		return observer.Permanent(observer.ReasonTooLarge, err)
	case answer.Code >= 500, answer.Code == http.StatusRequestTimeout, answer.Code == http.StatusTooManyRequests:
		return err
	}
	return observer.Permanent(observer.ReasonPermanent, err)
}
