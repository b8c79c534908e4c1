//go:build unix

package e2e

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fraiseql/observer"
)

// receipt is one request as it arrived.
type receipt struct {
	path    string
	key     string // webhook-id
	event   string // the id of the event, the first part of the key
	change  change
	note    string
	body    string
	at      time.Time
	attempt int // of this key, from 1
	status  int // 0 while it is not answered
	run     int // the number of the process that sent it, where the webhook says that
}

// runHeader carries the number of the process that sends, see [webhook].
const runHeader = "X-Run"

// answer decides the status that a request gets. It may block.
type answer func(r receipt) int

func ok(receipt) int { return http.StatusNoContent }

// receiver records every request.
type receiver struct {
	t      *testing.T
	server *httptest.Server
	mu     sync.Mutex
	list   []*receipt
	times  map[string]int
	answer answer
	ended  chan struct{} // closed when the test ends
}

// newReceiver listens on a port of the loopback interface.
func newReceiver(t *testing.T, a answer) *receiver {
	t.Helper()
	r := &receiver{t: t, answer: a, times: map[string]int{}, ended: make(chan struct{})}
	r.server = httptest.NewServer(r)
	t.Cleanup(func() {
		close(r.ended)
		r.server.CloseClientConnections()
		r.server.Close()
	})
	return r
}

// hold waits for c, or for the end of the test.
func (r *receiver) hold(c <-chan struct{}) {
	select {
	case <-c:
	case <-r.ended:
	}
}

func (r *receiver) url() string { return r.server.URL }

// down closes the port and returns a function that opens the same one again.
func (r *receiver) down() (up func()) {
	address := r.server.Listener.Addr().String()
	r.server.CloseClientConnections()
	r.server.Close()
	return func() {
		r.t.Helper()
		var listener net.Listener
		eventually(r.t, "the port of the receiver is free", func() (free bool) {
			var err error
			listener, err = (&net.ListenConfig{}).Listen(r.t.Context(), "tcp", address)
			return err == nil
		})
		server := httptest.NewUnstartedServer(r)
		_ = server.Listener.Close() // replaced by the old address
		server.Listener = listener
		server.Start()
		r.server = server
	}
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return // the sender was killed in the middle: nothing was received
	}
	kept, rec, answer := r.enter(req, string(body))
	status := answer(rec)
	r.mu.Lock()
	kept.status = status
	r.mu.Unlock()
	w.WriteHeader(status)
}

// enter gives the receipt as it is kept, which changes under the lock, and as it
// is now.
func (r *receiver) enter(req *http.Request, body string) (kept *receipt, rec receipt, a answer) {
	key := req.Header.Get("webhook-id")
	event, _, _ := strings.Cut(key, "/")
	rec = receipt{path: req.URL.Path, key: key, event: event, body: body, at: time.Now()}
	rec.change, rec.note = changeOf(body)
	rec.run, _ = strconv.Atoi(strings.TrimPrefix(req.Header.Get(runHeader), runPrefix)) // 0 without
	r.mu.Lock()
	defer r.mu.Unlock()
	r.times[key]++
	rec.attempt = r.times[key]
	stored := rec
	r.list = append(r.list, &stored)
	return &stored, rec, r.answer
}

// changeOf reads the change and its note out of an event; zero when it is none.
func changeOf(body string) (c change, note string) {
	var e observer.Event
	if json.Unmarshal([]byte(body), &e) != nil {
		return change{}, ""
	}
	fields, err := e.Fields()
	if err != nil {
		return change{}, ""
	}
	note, _ = fields["note"].(string)
	version, _ := fields["version"].(json.Number)
	v, _ := version.Int64()
	item, _ := strconv.ParseInt(e.EntityID, 10, 64)
	return change{e.Operation, item, v}, note
}

// receipts are copies of what arrived so far, in the order of arrival.
func (r *receiver) receipts() []receipt {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := make([]receipt, len(r.list))
	for i, one := range r.list {
		list[i] = *one
	}
	return list
}

// count counts the requests that match.
func (r *receiver) count(match func(receipt) bool) int {
	n := 0
	for _, one := range r.receipts() {
		if match(one) {
			n++
		}
	}
	return n
}

func accepted(r receipt) bool { return r.status >= 200 && r.status < 300 }
