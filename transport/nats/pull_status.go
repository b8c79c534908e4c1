package nats

import (
	"errors"
	"fmt"
	"strconv"

	client "github.com/nats-io/nats.go"
)

// status understands what is no message.
func (p *pull) status(msg *client.Msg) error {
	const (
		heartbeat = "100"
		noMessage = "404"
		expired   = "408"
		conflict  = "409"
		nobody    = "503"
	)
	code, text := msg.Header.Get("Status"), msg.Header.Get("Description")
	switch {
	case code == heartbeat:
		return p.heartbeat(msg.Header)
	case code == noMessage, code == expired, code == conflict && text == "Batch Completed":
		p.close(msg.Header)
		return nil
	case code == conflict && text == "Message Size Exceeds MaxBytes":
		p.close(msg.Header)
		p.alone = p.fresh
		return nil
	case code == nobody:
		return errors.New("the consumer is gone, or the server has no JetStream")
	}
	return fmt.Errorf("the server ended the consumer: %s %s", code, text)
}

// close ends a request of which not everything arrived.
func (p *pull) close(h client.Header) {
	left, err := strconv.Atoi(h.Get("Nats-Pending-Messages"))
	if err != nil {
		left = p.due
	}
	p.due = max(p.due-left, 0)
}

// heartbeat compares what was sent with what arrived.
func (p *pull) heartbeat(h client.Header) error {
	n, err1 := strconv.ParseUint(h.Get("Nats-Last-Consumer"), 10, 64)
	seq, err2 := strconv.ParseUint(h.Get("Nats-Last-Stream"), 10, 64)
	if err := errors.Join(err1, err2); err != nil {
		return fmt.Errorf("a heartbeat says not what was sent: %w", err)
	}
	if n != p.sent {
		return fmt.Errorf("messages were lost on the way: %d arrived, %d were sent", p.sent, n)
	}
	if p.more > 0 && seq > p.last.seq && p.hand(&arrival{gap: &gap{after: p.last, seen: p.horizon.Load(), missing: p.more}}) {
		p.more = 0
	}
	p.pass(seq)
	return nil
}
