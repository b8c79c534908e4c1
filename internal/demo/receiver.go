package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/fraiseql/observer"
)

const (
	// slowness is what the slow endpoint takes for an answer.
	slowness = 150 * time.Millisecond
	// The flaky endpoint refuses some deliveries at first: of flakyOf, one is
	// refused twice and one once.
	flakyOf = 5
	// mostBody bounds what the receiver reads of a request.
	mostBody = 1 << 20
	// stopTimeout bounds the wait for connections at the end, when the daemon
	// has stopped and no request is left. One that was opened and never used
	// would be waited for in vain.
	stopTimeout = 200 * time.Millisecond
)

// receiver is the other side: what a user's own services would be.
type receiver struct {
	url    string
	ledger *ledger
	screen *screen
	server *http.Server
	ended  chan error
}

func startReceiver(ctx context.Context, l *ledger, s *screen) (*receiver, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	r := &receiver{url: "http://" + listener.Addr().String(), ledger: l, screen: s, ended: make(chan error, 1)}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /{observer}", r.serve)
	r.server = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, BaseContext: func(net.Listener) context.Context { return ctx }}
	go func() { r.ended <- r.server.Serve(listener) }()
	return r, nil
}

// stop closes the receiver. It is called when nothing is sent to it any more.
func (r *receiver) stop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	err := r.server.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = r.server.Close()
	}
	if served := <-r.ended; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	return err
}

func (r *receiver) serve(w http.ResponseWriter, req *http.Request) {
	at := time.Now()
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, mostBody))
	name := req.PathValue("observer")
	var what duty
	if err == nil {
		what, err = read(name, body)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	key := req.Header.Get("webhook-id")
	done := r.ledger.receive(receipt{duty: what, key: key, at: at}, func(attempt int) int { return answer(name, key, attempt) })
	r.screen.received(done)
	if name == shipped {
		wait(req.Context(), slowness)
	}
	w.WriteHeader(done.status)
}

// read finds out what was received. One observer has a body template, the
// others send the event.
func read(name string, body []byte) (duty, error) {
	if name == created {
		var made struct {
			Version int64 `json:"version"`
		}
		if err := json.Unmarshal(body, &made); err != nil {
			return duty{}, fmt.Errorf("decode body: %w", err)
		}
		return duty{name, observer.Insert, made.Version}, nil
	}
	var e observer.Event
	if err := json.Unmarshal(body, &e); err != nil {
		return duty{}, fmt.Errorf("decode body: %w", err)
	}
	return dutyOf(name, &e)
}

// dutyOf finds the duty that an event for an observer fulfils.
func dutyOf(name string, e *observer.Event) (duty, error) {
	fields, err := e.Fields()
	if err != nil {
		return duty{}, err
	}
	number, _ := fields["version"].(json.Number)
	version, err := number.Int64()
	if err != nil {
		return duty{}, fmt.Errorf("event %s has no version: %w", e.ID, err)
	}
	return duty{name, e.Operation, version}, nil
}

// answer is the status that an endpoint gives to an attempt.
func answer(name, key string, attempt int) int {
	switch {
	case name == cancelled:
		return http.StatusUnprocessableEntity
	case name == created && attempt <= refusals(key):
		return http.StatusServiceUnavailable
	}
	return http.StatusNoContent
}

// refusals is how often the flaky endpoint refuses a delivery. It follows from
// the key, so that a repeated delivery meets the same answers.
func refusals(key string) int {
	h := fnv.New32a()
	_, _ = io.Copy(h, strings.NewReader(key))
	return max(0, 2-int(h.Sum32()%flakyOf))
}

func wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
