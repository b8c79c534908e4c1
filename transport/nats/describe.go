package nats

import (
	"errors"
	"fmt"

	client "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/fraiseql/observer"
)

// describe words what went wrong with a stream so that it says what to do. All
// of it may pass: somebody makes the stream, or grants a permission.
func describe(stream string, err error) error {
	if err == nil || errors.Is(err, observer.ErrNotFound) {
		return err
	}
	said := "stream " + stream
	switch {
	case errors.Is(err, jetstream.ErrJetStreamNotEnabled), errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount):
		said = "JetStream is not enabled for this account (start the server with -js, or give the account JetStream limits)"
	case errors.Is(err, jetstream.ErrStreamNotFound), errors.Is(err, jetstream.ErrNoStreamResponse), errors.Is(err, client.ErrNoResponders):
		said += " is not there (the next start makes it), or has no leader now, or JetStream is not enabled"
	case errors.Is(err, client.ErrPermissionViolation), errors.Is(err, client.ErrAuthorization):
		said += ": the account or user is not permitted to use it"
	case errors.Is(err, client.ErrTimeout), errors.Is(err, client.ErrReconnectBufExceeded), errors.Is(err, client.ErrDisconnected):
		said += ": no answer from the server"
	}
	return fmt.Errorf("%s: %w", said, err)
}
