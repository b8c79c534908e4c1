package nats

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	client "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Headers of atomic batches.
const (
	batchIDHeader       = "Nats-Batch-Id"
	batchSequenceHeader = "Nats-Batch-Sequence"
	batchCommitHeader   = "Nats-Batch-Commit"
	expectLastHeader    = "Nats-Expected-Last-Subject-Sequence"
	expectSubjectHeader = "Nats-Expected-Last-Subject-Sequence-Subject"
)

// answer is what the server says to a message of a batch.
type answer struct {
	Error  *jetstream.APIError `json:"error"`
	Stream string              `json:"stream"`
	Seq    uint64              `json:"seq"`
	Batch  string              `json:"batch"`
	Count  int                 `json:"count"`
}

// send publishes the first of the parcels, as many as a batch may have, as one
// batch that follows the tail. sent are those, and last the sequence of the last
// of them. After an error that is not the server's answer nobody knows whether
// the batch is stored.
func (p *Publisher) send(ctx context.Context, parcels []*parcel) (sent []*parcel, last uint64, err error) {
	trouble := p.stream.conn.watch()
	nc := p.stream.conn.nc
	b := outgoing{inbox: nc.NewInbox()}
	b.id = b.inbox[strings.LastIndexByte(b.inbox, '.')+1:] // as unique as that
	answers := make(chan *client.Msg, 4)
	sub, err := nc.ChanSubscribe(b.inbox, answers)
	if err != nil {
		return nil, 0, err
	}
	defer func() { _ = sub.Unsubscribe() }() // fails when the connection is closed, and with it the subscription
	if err := p.fill(ctx, &b, parcels); err != nil || len(b.sent) == 0 {
		return b.sent, p.tail.last, err
	}
	last, err = p.await(ctx, b, answers, trouble)
	return b.sent, last, err
}

// outgoing is a batch that is being sent.
type outgoing struct {
	id, inbox string
	sent      []*parcel
}

// fill sends the messages of a batch, all but the last as soon as they are there.
func (p *Publisher) fill(ctx context.Context, b *outgoing, parcels []*parcel) error {
	size := 0
	for _, one := range parcels {
		if len(b.sent) == p.limit {
			break
		}
		ready, err := p.ready(ctx, one)
		if err != nil {
			return err
		}
		if !ready {
			continue
		}
		if size += one.size; size > p.cfg.BatchBytes && len(b.sent) > 0 {
			break
		}
		if len(b.sent) > 0 {
			if err := p.sendLast(b, false); err != nil {
				return err
			}
		}
		b.sent = append(b.sent, one)
	}
	if len(b.sent) == 0 {
		return nil
	}
	return p.sendLast(b, true)
}

// sendLast sends the last message of a batch so far, and with commit the whole
// batch is stored.
func (p *Publisher) sendLast(b *outgoing, commit bool) error {
	msg := b.sent[len(b.sent)-1].msg
	h := msg.Header
	for _, name := range []string{batchCommitHeader, expectLastHeader, expectSubjectHeader} {
		delete(h, name) // of another try
	}
	h[batchIDHeader] = []string{b.id}
	h[batchSequenceHeader] = []string{strconv.Itoa(len(b.sent))}
	msg.Reply = ""
	if commit {
		h[batchCommitHeader] = []string{"1"}
	}
	if commit || len(b.sent) == 1 {
		msg.Reply = b.inbox
		p.expect(msg)
	}
	return p.stream.conn.nc.PublishMsg(msg)
}

// await waits for the answer to a batch.
func (p *Publisher) await(ctx context.Context, b outgoing, answers <-chan *client.Msg, trouble *trouble) (last uint64, err error) {
	timer := time.NewTimer(p.cfg.AnswerTime)
	defer timer.Stop()
	for {
		select {
		case msg := <-answers:
			a, err := read(msg)
			if err != nil {
				return 0, err
			}
			if a.Batch != b.id {
				continue // the first message is staged
			}
			if a.Stream != p.stream.cfg.Name || a.Count != len(b.sent) {
				return 0, fmt.Errorf("stream %s stored %d of %d messages", a.Stream, a.Count, len(b.sent))
			}
			return a.Seq, nil
		case <-trouble.came:
			return 0, trouble.err
		case <-timer.C:
			return 0, fmt.Errorf("no answer to a batch of %d messages within %s: %w", len(b.sent), p.cfg.AnswerTime, client.ErrTimeout)
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

// expect lets a message in only where it follows the tail.
func (p *Publisher) expect(msg *client.Msg) {
	msg.Header[expectLastHeader] = []string{strconv.FormatUint(p.tail.last, 10)}
	msg.Header[expectSubjectHeader] = []string{p.filter}
}

// read reads an answer. Its error is the server's refusal.
func read(msg *client.Msg) (answer, error) {
	var a answer
	if len(msg.Data) == 0 {
		if msg.Header.Get("Status") == "503" {
			return a, client.ErrNoResponders
		}
		return a, nil
	}
	if err := json.Unmarshal(msg.Data, &a); err != nil {
		return a, fmt.Errorf("read the answer of the server: %w", err)
	}
	if a.Error != nil {
		return a, a.Error
	}
	return a, nil
}

// sendSingly publishes parcels one after the other, to learn which of them the
// server has already. It stops at the first that is refused.
func (p *Publisher) sendSingly(ctx context.Context, parcels []*parcel) error {
	for _, one := range parcels {
		for _, name := range []string{batchCommitHeader, batchIDHeader, batchSequenceHeader} {
			delete(one.msg.Header, name)
		}
		one.msg.Reply = ""
		p.expect(one.msg)
		last, err := p.sendSingle(ctx, one)
		if err != nil {
			return err
		}
		p.tail.add(last, []*parcel{one})
	}
	return nil
}

// sendSingle publishes one parcel unless it is there. The server may remember its
// id although the message was removed, or because it is that of another
// database, made from a copy of this one: then it goes under another id.
func (p *Publisher) sendSingle(ctx context.Context, one *parcel) (last uint64, err error) {
	for _, id := range []string{one.id, headerText(p.cfg.Database) + "/" + one.id, ""} {
		one.msg.Header[jetstream.MsgIDHeader] = []string{id}
		if id != one.id {
			one.msg.Header[eventIDHeader] = []string{one.id}
		}
		if id == "" {
			delete(one.msg.Header, jetstream.MsgIDHeader)
		}
		ack, err := p.stream.conn.js.PublishMsg(ctx, one.msg, jetstream.WithRetryAttempts(0))
		if err != nil {
			return 0, err
		}
		if !ack.Duplicate {
			return ack.Sequence, nil
		}
		there, err := p.holds(ctx, ack.Sequence, one.id)
		if there || err != nil {
			return p.tail.last, err
		}
	}
	return 0, fmt.Errorf("stream %s takes a message without an id for a duplicate", p.stream.cfg.Name)
}

// holds asks the leader whether the message with a sequence is that of an event
// of this database.
func (p *Publisher) holds(ctx context.Context, seq uint64, id string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.AnswerTime)
	defer cancel()
	msg, err := p.stream.conn.nc.RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET."+p.stream.cfg.Name, fmt.Appendf(nil, `{"seq":%d}`, seq))
	if err != nil {
		return false, err
	}
	var reply struct {
		Error   *jetstream.APIError `json:"error"`
		Message struct {
			Subject string `json:"subject"`
			Header  []byte `json:"hdrs"`
		} `json:"message"`
	}
	if err := json.Unmarshal(msg.Data, &reply); err != nil {
		return false, fmt.Errorf("read message %d: %w", seq, err)
	}
	if reply.Error != nil {
		if reply.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound {
			return false, nil
		}
		return false, reply.Error
	}
	header, err := client.DecodeHeadersMsg(reply.Message.Header)
	return err == nil && eventID(header) == id && strings.HasPrefix(reply.Message.Subject, strings.TrimSuffix(p.filter, ">")), err
}

// eventID is the id of the event of a message, as [parcel] has it.
func eventID(header client.Header) string {
	if id := header.Get(eventIDHeader); id != "" {
		return id
	}
	return header.Get(jetstream.MsgIDHeader)
}
