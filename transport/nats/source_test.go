package nats_test

import (
	"context"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/source/sourcetest"
	"github.com/fraiseql/observer/transport/nats"
)

func TestSourceConforms(t *testing.T) {
	t.Parallel()
	sourcetest.Run(t, func(t *testing.T) sourcetest.Harness {
		t.Helper()
		b := newBench(t, testenv.NATS(t), 1)
		return sourcetest.Harness{
			Source: func() observer.Source { return b.source(t, func(c *nats.SourceConfig) { c.BatchSize = 10 }) },
			Append: func(ctx context.Context, commit bool, events ...*observer.Event) error {
				if !commit {
					return nil
				}
				return b.publish(ctx, "shop", events...)
			},
			AppendMalformed: func(ctx context.Context) error {
				_, err := b.js.Publish(ctx, prefix+".shop.0.Order.UPDATE", []byte("no event"))
				return err
			},
			Prune: func(ctx context.Context, upTo observer.Position) error {
				return b.stream(t).Purge(ctx, jetstream.WithPurgeSequence(nats.SequenceOf(upTo)+1))
			},
			BatchSize: 10,
		}
	})
}
