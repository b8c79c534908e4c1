package nats

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	client "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/backoff"
)

// ErrStreamFull says that the stream has as many messages or bytes as it may.
// Trying again helps when some are old enough to go, or the limit was raised.
var ErrStreamFull = errors.New("the stream is full")

// The server's codes of answers to a batch.
const (
	codeNoStorage     jetstream.ErrorCode = 10023 // the server's storage is exhausted
	codeAccountFull   jetstream.ErrorCode = 10002 // the account's storage is
	codeWrongLast     jetstream.ErrorCode = 10071
	codeWrongLastBusy jetstream.ErrorCode = 10164 // another batch is accepted and not applied yet
	codeTooLarge      jetstream.ErrorCode = 10054
	codeHeaderLarge   jetstream.ErrorCode = 10097
	codeNotStored     jetstream.ErrorCode = 10077
	codeDuplicateBusy jetstream.ErrorCode = 10158
	codeIncomplete    jetstream.ErrorCode = 10176
	codeBatchTooLarge jetstream.ErrorCode = 10199
	codeDuplicate     jetstream.ErrorCode = 10201
	codeTooManyAtOnce jetstream.ErrorCode = 10210
)

// busyTime is how long to wait for what the server is doing.
const busyTime = 50 * time.Millisecond

// recover decides what follows an error of [Publisher.send]. A nil error says to
// send again what is not in the stream then; smaller, that it was made smaller.
func (p *Publisher) recover(ctx context.Context, sent []*parcel, err error) (smaller bool, _ error) {
	refusal, answered := errors.AsType[*jetstream.APIError](err)
	if !answered {
		p.tail = nil // the batch may be stored
		if errors.Is(err, client.ErrNoResponders) {
			return false, p.remake(ctx, err)
		}
		return false, describe(p.stream.cfg.Name, err)
	}
	switch refusal.ErrorCode {
	case codeWrongLast:
		p.tail = nil
		return false, nil
	case codeWrongLastBusy, codeDuplicateBusy, codeTooManyAtOnce:
		p.tail = nil
		backoff.Wait(ctx, nil, backoff.AtLeast(busyTime))
		return false, ctx.Err()
	case codeDuplicate:
		return false, p.duplicates(ctx, sent)
	case codeBatchTooLarge:
		p.cfg.BatchSize = max(1, len(sent)/2)
	case codeTooLarge, codeHeaderLarge, codeNotStored, codeIncomplete:
	default:
		return false, p.refused(refusal)
	}
	if len(sent) > 1 {
		p.limit = len(sent) / 2
		return true, nil
	}
	if refusal.ErrorCode == codeTooLarge || refusal.ErrorCode == codeHeaderLarge {
		sent[0].done = true
		return true, p.oversized(ctx, sent[0].event, refusal)
	}
	return false, p.refused(refusal)
}

// duplicates handles a batch of which the server has something. Mostly somebody
// else published it; else it is deeper in the stream than was read.
func (p *Publisher) duplicates(ctx context.Context, sent []*parcel) error {
	if !p.tail.fresh {
		p.tail = nil
		return nil
	}
	attended, end := p.stream.conn.attended(ctx)
	defer end()
	err := p.sendSingly(attended, sent)
	if err == nil {
		return nil
	}
	p.tail = nil
	if attended.Err() != nil {
		err = context.Cause(attended)
	}
	if refusal, ok := errors.AsType[*jetstream.APIError](err); ok && (refusal.ErrorCode == codeWrongLast || refusal.ErrorCode == codeWrongLastBusy) {
		return nil
	}
	return describe(p.stream.cfg.Name, err)
}

// refused words a refusal for people.
func (p *Publisher) refused(refusal *jetstream.APIError) error {
	name := p.stream.cfg.Name
	said := refusal.Description
	switch {
	case strings.Contains(said, "maximum messages"):
		return fmt.Errorf("%w: %s has %d messages, which stay %s, handled or not; raise max_msgs",
			ErrStreamFull, name, p.stream.cfg.MaxMsgs, p.stream.cfg.stays())
	case strings.Contains(said, "maximum bytes"):
		return fmt.Errorf("%w: %s has %d bytes, which stay %s, handled or not; raise max_bytes",
			ErrStreamFull, name, p.stream.cfg.MaxBytes, p.stream.cfg.stays())
	case refusal.ErrorCode == codeNoStorage, refusal.ErrorCode == codeAccountFull:
		return fmt.Errorf("%w: the storage that the server has for it is used up (%s); make room, or raise max_file_store of the server or the limits of the account",
			ErrStreamFull, said)
	}
	return fmt.Errorf("stream %s refused a batch: %w", name, refusal)
}

// stays says for how long a stream keeps its messages.
func (c StreamConfig) stays() string {
	if c.MaxAge == 0 {
		return "for ever"
	}
	return "for " + c.MaxAge.String()
}

// remake makes a stream that is gone.
func (p *Publisher) remake(ctx context.Context, cause error) error {
	ctx, end := p.stream.conn.attended(ctx)
	defer end()
	if _, err := p.stream.State(ctx); !errors.Is(err, observer.ErrNotFound) {
		if err == nil {
			err = describe(p.stream.cfg.Name, cause)
		}
		return err
	}
	p.cfg.Logger.Error("the stream is gone, with what workers have not read; making it again", "stream", p.stream.cfg.Name)
	return p.stream.Ensure(ctx)
}
