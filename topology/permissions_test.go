package topology_test

import (
	"fmt"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/fraiseql/observer/internal/testenv"
)

// What docs/nats.md says that a bridge and a worker may need is enough for both,
// also when the worker comes first, and the server complains about nothing else
// than that one making the stream.
func TestDocumentedPermissionsAreEnough(t *testing.T) {
	t.Parallel()
	document, err := os.ReadFile("../docs/nats.md")
	if err != nil {
		t.Fatal(err)
	}
	conf := regexp.MustCompile("(?s)```\n(authorization .*?)```").FindStringSubmatch(string(document))
	if conf == nil {
		t.Fatal("docs/nats.md has no authorization block")
	}
	nats := testenv.PrivateNATS(t, testenv.NATSOptions{Settings: conf[1]})
	r := newReceiver(t, func(string) int { return http.StatusOK })
	s := newShop(t)
	at, shared := place{s.dir}, "[transport]\ntransport = \"nats\"\n%s\n[transport.nats]\nurl = '"+nats.URL()+"'\nuser = '%s'\npassword = '%s'\npartitions = 4\n[state]\nurl = \"sqlite:state.db\"\n"
	workerFile := at.write(t, "worker.toml", fmt.Sprintf(shared, "run_bridge = false", "worker", "change me, too")+"[network]\nallow = [\"127.0.0.0/8\"]\n"+
		observerTo("each", r.URL+"/{{ data.status }}", ""))
	stopWorker := program(t, distribute, workerFile)
	start := func() (stop func()) {
		return program(t, distribute, at.write(t, "bridge.toml", fmt.Sprintf(shared, "run_executors = false", "bridge", "change me")+
			"[[databases]]\nname = \"shop\"\nurl = \"sqlite:shop.db\"\n"))
	}
	stop := start()
	s.exec(t, "INSERT INTO orders VALUES (1, 'first')")
	r.await(t, "/first")
	stop()
	stopWorker()
	// The next bridge reads back what is published, the next worker where it was.
	program(t, distribute, workerFile)
	start()
	s.exec(t, "UPDATE orders SET status = 'second'") // in the same partition
	r.await(t, "/second")
	for line := range strings.Lines(nats.Log()) {
		if strings.Contains(line, "Violation") && !strings.Contains(line, "STREAM.CREATE") {
			t.Error(strings.TrimSpace(line))
		}
	}
}
