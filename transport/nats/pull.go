package nats

import (
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	client "github.com/nats-io/nats.go"
)

// pull asks the server for messages in advance, one batch at a time, and checks
// that what arrives has no gap: every message, and every heartbeat, says how many
// messages were sent before it.
type pull struct {
	cfg    SourceConfig
	stream *Stream
	fail   func(error)
	next   string // the subject of requests
	sub    *client.Subscription

	// arrived has room for two batches: the next one is asked for when one is
	// there and not more than one waits here.
	arrived chan *arrival
	// horizon is the last message of the stream that the server has looked at for
	// us: what of the partition stands up to there has arrived.
	horizon atomic.Uint64

	mu sync.Mutex
	// due is how many messages are asked for and have not arrived, heard when
	// something did or was asked for.
	due   int
	heard time.Time
	// sent counts the messages that were sent so far, last is the last one of them,
	// more how many of the partition stood behind it.
	sent uint64
	last point
	more uint64
	// fresh: nothing came since the last request. alone: the next message is too
	// large for a batch.
	fresh, alone bool
	ended        bool
}

// arrival is a message, or the news that some are missing before it, or both.
type arrival struct {
	*record
	gap *gap
}

// gap are messages that the server counted and then no longer had.
type gap struct {
	after   point
	seen    uint64 // the horizon before it was noticed
	missing uint64
}

func newPull(s *Source, fail func(error)) *pull {
	return &pull{cfg: s.cfg, stream: s.stream, fail: fail, arrived: make(chan *arrival, 2*s.cfg.BatchSize+1)}
}

// subscribe prepares to receive what a consumer sends, of which there is as much
// as pending says.
func (p *pull) subscribe(consumer string, pending uint64) (err error) {
	p.more = pending
	p.next = api(p.stream.conn.js, "CONSUMER.MSG.NEXT."+p.stream.Name()+"."+consumer)
	if p.sub, err = p.stream.conn.nc.Subscribe(p.stream.conn.nc.NewInbox(), p.receive); err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	return p.sub.SetPendingLimits(-1, -1) // bounded by what is asked for
}

// start asks for the first batch.
func (p *pull) start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ask()
}

func (p *pull) unsubscribe() {
	p.mu.Lock()
	p.ended = true
	p.mu.Unlock()
	if p.sub != nil {
		_ = p.sub.Unsubscribe() // fails only when it is over already
	}
}

// silent reports whether the server, asked for messages, has said nothing for
// too long.
func (p *pull) silent(most time.Duration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.due > 0 && time.Since(p.heard) > most
}

// took makes room: a message was taken from arrived.
func (p *pull) took() {
	if len(p.arrived) > p.cfg.BatchSize {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.proceed()
}

// proceed asks for the next batch if the last one is there. The caller holds mu.
func (p *pull) proceed() {
	if p.due > 0 || len(p.arrived) > p.cfg.BatchSize || p.ended {
		return
	}
	if err := p.ask(); err != nil {
		p.fail(err)
	}
}

// request is what a consumer understands.
type request struct {
	Batch     int           `json:"batch"`
	MaxBytes  int           `json:"max_bytes,omitempty"`
	Expires   time.Duration `json:"expires"`
	Heartbeat time.Duration `json:"idle_heartbeat"`
}

// ask asks for a batch. The caller holds mu.
func (p *pull) ask() error {
	r := request{Batch: p.cfg.BatchSize, MaxBytes: p.cfg.BatchBytes, Expires: max(30*time.Second, 4*p.cfg.Heartbeat), Heartbeat: p.cfg.Heartbeat}
	if p.alone {
		r.Batch, r.MaxBytes = 1, 0
	}
	body, err := json.Marshal(r)
	if err != nil {
		return err
	}
	if err := p.stream.conn.nc.PublishRequest(p.next, p.sub.Subject, body); err != nil {
		return fmt.Errorf("ask for messages: %w", err)
	}
	p.due, p.heard, p.fresh, p.alone = r.Batch, time.Now(), true, false
	return nil
}

// receive takes what the server sends, one at a time.
func (p *pull) receive(msg *client.Msg) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return
	}
	p.heard = time.Now()
	var err error
	if msg.Reply == "" { // every message of the stream has one
		err = p.status(msg)
	} else {
		err = p.message(msg)
	}
	if err != nil {
		p.ended = true
		p.fail(err)
		return
	}
	p.proceed()
}

func (p *pull) message(msg *client.Msg) error {
	meta, err := msg.Metadata()
	if err != nil {
		return fmt.Errorf("what arrived says not where it stands in the stream: %w", err)
	}
	n, seq := meta.Sequence.Consumer, meta.Sequence.Stream
	if n != p.sent+1 || seq <= p.last.seq {
		return fmt.Errorf("messages were lost on the way: number %d (message %d) came after number %d (message %d)", n, seq, p.sent, p.last.seq)
	}
	a := &arrival{record: &record{
		point:   point{life: p.last.life, seq: seq, at: meta.Timestamp.UnixNano(), mark: mark(msg.Header.Get(client.MsgIdHdr))},
		subject: msg.Subject, header: msg.Header, data: msg.Data,
	}}
	if p.more > meta.NumPending+1 {
		a.gap = &gap{after: p.last, seen: p.horizon.Load(), missing: p.more - meta.NumPending - 1}
	}
	if !p.hand(a) {
		return errors.New("the server sends more than was asked for")
	}
	p.sent, p.last, p.more = n, a.point, meta.NumPending
	p.due, p.fresh = p.due-1, false
	p.pass(seq)
	return nil
}

// hand puts what arrived where Next finds it.
func (p *pull) hand(a *arrival) bool {
	select {
	case p.arrived <- a:
		return true
	default:
		return false
	}
}

func (p *pull) pass(seq uint64) {
	if seq > p.horizon.Load() {
		p.horizon.Store(seq)
	}
}
