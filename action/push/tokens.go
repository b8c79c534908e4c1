package push

import (
	"context"
	"sync"
	"time"

	"github.com/fraiseql/observer"
)

// tokenMargin is how long before its end a token is not used any more: a request
// takes time, and clocks differ.
const tokenMargin = time.Minute

// tokens keeps an access token until shortly before it expires. However many ask,
// one request for a new one is under way at a time. It is safe for concurrent use.
type tokens struct {
	// fetch asks for a new token and says how long it counts from now.
	fetch func(ctx context.Context) (observer.Secret, time.Duration, error)

	mu     sync.Mutex
	token  observer.Secret
	until  time.Time
	flight *flight // nil when no request is under way
}

// flight is one request for a token. What it has is read once done is closed.
type flight struct {
	done  chan struct{}
	token observer.Secret
	err   error
	// abandoned: whoever made the request gave up on it, which says nothing to
	// the others.
	abandoned bool
}

// get is a token that counts.
func (t *tokens) get(ctx context.Context) (observer.Secret, error) {
	for {
		if err := ctx.Err(); err != nil {
			return observer.Secret{}, err
		}
		token, f, mine := t.join()
		switch {
		case f == nil:
			return token, nil
		case mine:
			t.fly(ctx, f)
			return f.token, f.err
		}
		select {
		case <-f.done:
		case <-ctx.Done():
			return observer.Secret{}, ctx.Err()
		}
		if !f.abandoned {
			return f.token, f.err
		}
	}
}

// join is the token in store, or else the request under way for one: mine when
// the caller is to make it.
func (t *tokens) join() (token observer.Secret, f *flight, mine bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.token.IsZero() && time.Now().Before(t.until) {
		return t.token, nil, false
	}
	if t.flight != nil {
		return observer.Secret{}, t.flight, false
	}
	t.flight = &flight{done: make(chan struct{}), abandoned: true}
	return observer.Secret{}, t.flight, true
}

// fly makes the request. A panic inside leaves it abandoned, for others to make.
func (t *tokens) fly(ctx context.Context, f *flight) {
	var counts time.Duration
	asked := time.Now()
	defer func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if !f.abandoned && f.err == nil {
			t.token, t.until = f.token, asked.Add(counts-min(tokenMargin, counts/2))
		}
		t.flight = nil
		close(f.done)
	}()
	f.token, counts, f.err = t.fetch(ctx)
	f.abandoned = f.err != nil && ctx.Err() != nil
}

// drop forgets token, if that is still the one in store.
func (t *tokens) drop(token observer.Secret) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.token.Reveal() == token.Reveal() {
		t.token = observer.Secret{}
	}
}
