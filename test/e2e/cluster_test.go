//go:build unix

package e2e

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/fraiseql/observer/internal/testenv"
)

// TestClusterWhoseServersDie kills one server of a cluster every few seconds,
// under load. The stream has three replicas, so that it goes on without one.
func TestClusterWhoseServersDie(t *testing.T) {
	t.Parallel()
	long(t)
	r := random(t)
	recv := newReceiver(t, func(r receipt) int {
		<-time.After(time.Duration(r.change.version%7) * time.Millisecond)
		return http.StatusOK
	})
	nodes := testenv.NATSCluster(t, 3, testenv.NATSOptions{})
	f := newFleet(t, nodes.URL(), recv, webhook("all", recv.url(), "", ""))
	f.stream = "replicas = 3"
	f.databases(onPostgres)
	f.crew(1, 2)
	f.start()
	stop := f.load(r, 60, 100)
	var plan []step
	for at := 2 * time.Second; at < 20*time.Second; at += between(r, 1500*time.Millisecond, 3*time.Second) {
		node, down := r.IntN(len(nodes)), between(r, 10*time.Millisecond, 2*time.Second)
		plan = append(plan,
			step{at, fmt.Sprintf("kill server %d", node), func() { nodes[node].Kill(t) }},
			step{at + down, fmt.Sprintf("start server %d", node), func() { nodes[node].Restart(t) }})
		at += down
	}
	f.run(plan)
	stop()
	f.arrived()
	f.stop()
	f.check()
	f.leftNothing()
}
