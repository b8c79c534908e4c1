package nats_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/transport/nats"
	"github.com/fraiseql/observer/transport/transporttest"
)

func TestTransportConforms(t *testing.T) {
	t.Parallel()
	transporttest.Run(t, func(t *testing.T) transporttest.Harness {
		t.Helper()
		const partitions = 4
		b := newBench(t, testenv.NATS(t), partitions)
		return transporttest.Harness{
			Publisher: func(database string) observer.BatchHandler {
				p, err := nats.NewPublisher(b.Stream, nats.PublisherConfig{
					Database: database,
					Oversized: func(_ context.Context, e *observer.Event, why error) error {
						return fmt.Errorf("event %s is not expected to be too long: %w", e.ID, why)
					},
				})
				if err != nil {
					t.Fatal(err)
				}
				return p
			},
			Sources: func() (list []observer.Source) {
				for p := range partitions {
					list = append(list, b.source(t, func(c *nats.SourceConfig) { c.Partition = p }))
				}
				return list
			},
		}
	})
}
