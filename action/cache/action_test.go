package cache_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/action/actiontest"
	"github.com/fraiseql/observer/action/cache"
	"github.com/fraiseql/observer/internal/outbound"
	"github.com/fraiseql/observer/internal/testenv"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

func newAction(t *testing.T, cfg cache.Config) *cache.Action {
	t.Helper()
	network := actiontest.Network()
	a, err := cache.New(cfg, network.DialContext)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close() })
	return a
}

// monitor notes the keys that a server was told to remove.
type monitor struct {
	server *testenv.RedisServer
	mu     sync.Mutex
	seen   []string
	marks  chan string
}

func watch(t *testing.T, server *testenv.RedisServer) *monitor {
	t.Helper()
	u, err := url.Parse(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	password, _ := u.User.Password()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", u.Host)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if _, err := io.WriteString(conn, "AUTH "+password+"\r\nMONITOR\r\n"); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(conn)
	for range 2 {
		if line, err := lines.ReadString('\n'); err != nil || line != "+OK\r\n" {
			t.Fatalf("%q, %v", line, err)
		}
	}
	m := &monitor{server: server, marks: make(chan string)}
	go m.read(lines)
	return m
}

func (m *monitor) read(lines *bufio.Reader) {
	defer close(m.marks)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return
		}
		_, command, _ := strings.Cut(strings.TrimSpace(line), "] ")
		name, rest, _ := strings.Cut(command, " ")
		switch strings.ToUpper(name) {
		case `"UNLINK"`:
			text, err := strconv.Unquote(rest)
			if err != nil {
				text = rest
			}
			m.mu.Lock()
			m.seen = append(m.seen, text)
			m.mu.Unlock()
		case `"ECHO"`:
			m.marks <- rest
		}
	}
}

// removed waits until the monitor has told everything that happened so far.
func (m *monitor) removed(t *testing.T) []string {
	t.Helper()
	m.server.Command(t, "ECHO", "mark")
	<-m.marks
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.seen)
}

func TestConformance(t *testing.T) {
	t.Parallel()
	actiontest.Run(t, func(t *testing.T) actiontest.Fixture {
		t.Helper()
		server := testenv.PrivateRedis(t, testenv.RedisOptions{})
		m := watch(t, server)
		u, err := url.Parse(server.URL())
		if err != nil {
			t.Fatal(err)
		}
		proxy := testenv.NewProxy(t, u.Host)
		u.Host = proxy.Address
		return actiontest.Fixture{
			New: func(t *testing.T, message string) observer.Action {
				t.Helper()
				return newAction(t, cache.Config{
					URL: observer.NewSecret(u.String()), KeyPattern: message,
					Redactor: observer.NewRedactor(observer.NewSecret(actiontest.Secret)),
				})
			},
			Received: func() []string { return m.removed(t) },
			Answer: func(answer actiontest.Answer) {
				switch answer {
				case actiontest.RefuseNow:
					server.Config(t, "min-replicas-to-write", "1")
				case actiontest.RefuseForever:
					server.Config(t, "min-replicas-to-write", "0")
					server.Command(t, "ACL", "SETUSER", "default", "-unlink")
				case actiontest.Hang:
					proxy.Mute("UNLINK")
				case actiontest.HangUp:
					proxy.HangUp("UNLINK")
				case actiontest.Away:
					proxy.Away()
				case actiontest.Accept:
				}
			},
		}
	})
}

func keys(t *testing.T, server string) []string {
	t.Helper()
	var found []string
	for _, key := range testenv.RedisCommand(t, server, "KEYS", "*").([]any) {
		found = append(found, key.(string))
	}
	slices.Sort(found)
	return found
}

func set(t *testing.T, server string, keys ...string) {
	t.Helper()
	args := []string{"MSET"}
	for _, key := range keys {
		args = append(args, key, "v")
	}
	testenv.RedisCommand(t, server, args...)
}

func TestKeysAreRemoved(t *testing.T) {
	t.Parallel()
	all := []string{"order:7", "order:7:lines", "order:71", "order:*", "order:[7]", `order:\7`, "order:?", "user:7"}
	slices.Sort(all)
	for name, c := range map[string]struct {
		action, key, status string
		gone                []string
	}{
		"one":                   {"", "order:{{ data.number }}", "", []string{"order:7"}},
		"one with glob letters": {"invalidate", "order:{{ data.status }}", "*", []string{"order:*"}},
		"absent":                {"invalidate", "nothing", "", nil},
		"pattern":               {"invalidate_pattern", "order:{{ data.number }}*", "", []string{"order:7", "order:71", "order:7:lines"}},
		"escaped star":          {"invalidate_pattern", "order:{{ data.status }}", "*", []string{"order:*"}},
		"escaped mark":          {"invalidate_pattern", "order:{{ data.status }}", "?", []string{"order:?"}},
		"escaped class":         {"invalidate_pattern", "order:{{ data.status }}", "[7]", []string{"order:[7]"}},
		"escaped backslash":     {"invalidate_pattern", "order:{{ data.status }}", `\7`, []string{`order:\7`}},
		"no range in a class":   {"invalidate_pattern", "order:[{{ data.status }}]", "6-8]*", []string{"order:*"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := testenv.Redis(t)
			set(t, server, all...)
			a := newAction(t, cache.Config{URL: observer.NewSecret(server), KeyPattern: c.key, Action: c.action})
			result, err := a.Execute(t.Context(), actiontest.NewDelivery(7, c.status))
			if want := fmt.Sprintf("%d keys removed", len(c.gone)); err != nil || result.Detail != want {
				t.Errorf("%+v, %v; want %s", result, err, want)
			}
			left := slices.DeleteFunc(slices.Clone(all), func(key string) bool { return slices.Contains(c.gone, key) })
			if diff := cmp.Diff(left, keys(t, server)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestManyKeys(t *testing.T) {
	t.Parallel()
	server := testenv.PrivateRedis(t, testenv.RedisOptions{})
	m := watch(t, server)
	var many []string
	for i := range 5000 {
		many = append(many, "page:"+strconv.Itoa(i))
	}
	set(t, server.URL(), append(many, "other")...)
	a := newAction(t, cache.Config{URL: observer.NewSecret(server.URL()), KeyPattern: "page:*", Action: "invalidate_pattern"})
	result, err := a.Execute(t.Context(), actiontest.NewDelivery(7, "x"))
	if err != nil || result.Detail != "5000 keys removed" {
		t.Errorf("%+v, %v", result, err)
	}
	if diff := cmp.Diff([]string{"other"}, keys(t, server.URL())); diff != "" {
		t.Error(diff)
	}
	if n := len(m.removed(t)); n > 30 {
		t.Errorf("%d commands for 5000 keys", n)
	}
	stats := fmt.Sprint(server.Command(t, "INFO", "commandstats"))
	if !strings.Contains(stats, "cmdstat_scan") || strings.Count(stats, "cmdstat_keys") != 1 { // KEYS is the test's
		t.Errorf("commands: %s", stats)
	}
}

func TestEmptyValueIsNoPattern(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t)
	set(t, server, "a", "b")
	a := newAction(t, cache.Config{URL: observer.NewSecret(server), KeyPattern: "{{ data.status }}*", Action: "invalidate_pattern"})
	if _, err := a.Execute(t.Context(), actiontest.NewDelivery(7, "")); observer.ReasonOf(err) != observer.ReasonTemplate {
		t.Errorf("%v, want a permanent error with reason template", err)
	}
	if got := keys(t, server); len(got) != 2 {
		t.Errorf("left %q", got)
	}
}

// TestStoredKeyStaysWhatItWas: the action was changed to patterns while the
// delivery of a plain key waited.
func TestStoredKeyStaysWhatItWas(t *testing.T) {
	t.Parallel()
	server := testenv.Redis(t)
	set(t, server, "*", "a")
	d := actiontest.NewDelivery(7, "*")
	plain := newAction(t, cache.Config{URL: observer.NewSecret(server), KeyPattern: "{{ data.status }}"})
	if err := plain.Prepare(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	pattern := newAction(t, cache.Config{URL: observer.NewSecret(server), KeyPattern: "x*", Action: "invalidate_pattern"})
	if _, err := pattern.Execute(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a"}, keys(t, server)); diff != "" {
		t.Error(diff)
	}
}

func TestServerThatComesAndGoes(t *testing.T) {
	t.Parallel()
	server := testenv.PrivateRedis(t, testenv.RedisOptions{Persistent: true})
	a := newAction(t, cache.Config{URL: observer.NewSecret(server.URL()), KeyPattern: "k"})
	execute := func() (observer.Result, error) { return a.Execute(t.Context(), actiontest.NewDelivery(7, "x")) }
	if _, err := execute(); err != nil {
		t.Fatal(err)
	}
	server.Stop(t)
	if _, err := execute(); err == nil || !observer.Retryable(err) {
		t.Errorf("stopped: %v", err)
	}
	server.Restart(t)
	set(t, server.URL(), "k")
	for range 3 { // the first may find the old connection
		if result, err := execute(); err == nil && result.Detail == "1 keys removed" {
			return
		}
	}
	t.Error("the key was not removed after the restart")
}

func TestPasswordIsNeverTold(t *testing.T) {
	t.Parallel()
	server := testenv.PrivateRedis(t, testenv.RedisOptions{})
	u, err := url.Parse(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword("", "wrong-s3cret")
	a := newAction(t, cache.Config{URL: observer.NewSecret(u.String()), KeyPattern: "k"})
	d := actiontest.NewDelivery(7, "x")
	_, err = a.Execute(t.Context(), d)
	if err == nil || observer.Retryable(err) || !strings.Contains(err.Error(), "WRONGPASS") {
		t.Errorf("%v, want a permanent error", err)
	}
	if text := fmt.Sprint(err, a.Endpoint(t.Context(), d), string(d.Request)); strings.Contains(text, "s3cret") {
		t.Errorf("the password shows: %s", text)
	}
}

func TestConnectionsAreClosed(t *testing.T) {
	t.Parallel()
	server := testenv.PrivateRedis(t, testenv.RedisOptions{})
	a := newAction(t, cache.Config{URL: observer.NewSecret(server.URL()), KeyPattern: "k"})
	open := func() int {
		return strings.Count(fmt.Sprint(server.Command(t, "CLIENT", "LIST")), "name=fraiseql-observer")
	}
	if _, err := a.Execute(t.Context(), actiontest.NewDelivery(7, "x")); err != nil || open() == 0 {
		t.Fatalf("%v, %d connections", err, open())
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	for range 1000 {
		if open() == 0 {
			return
		}
	}
	t.Errorf("%d connections are left", open())
}

func TestGuardJudgesTheServer(t *testing.T) {
	t.Parallel()
	a, err := cache.New(cache.Config{URL: observer.NewSecret("redis://169.254.169.254:6379"), KeyPattern: "k"}, outbound.New(outbound.Config{}).DialContext)
	if err != nil {
		t.Fatal(err)
	}
	_, err = a.Execute(t.Context(), actiontest.NewDelivery(7, "x"))
	if !errors.Is(err, outbound.ErrRefused) || observer.Retryable(err) || observer.IsOutcomeUnknown(err) {
		t.Errorf("%v, want a refused address, permanent", err)
	}
}

func TestNewRefusesBadConfigurations(t *testing.T) {
	t.Parallel()
	good := observer.NewSecret("redis://:s3cret@cache.example.com:6379/1")
	for name, c := range map[string]struct {
		cfg  cache.Config
		want []string
	}{
		"empty":          {cache.Config{}, []string{"url", "key_pattern"}},
		"not Redis":      {cache.Config{URL: observer.NewSecret("http://s3cret"), KeyPattern: "k"}, []string{"url"}},
		"a bad database": {cache.Config{URL: observer.NewSecret("redis://h/s3cret"), KeyPattern: "k"}, []string{"url"}},
		"a socket":       {cache.Config{URL: observer.NewSecret("unix:///tmp/s3cret"), KeyPattern: "k"}, []string{"url"}},
		"bad template":   {cache.Config{URL: good, KeyPattern: "{{ nope }}"}, []string{"key_pattern"}},
		"bad pattern":    {cache.Config{URL: good, KeyPattern: "{{ nope }}", Action: "invalidate_pattern"}, []string{"key_pattern"}},
		"unknown action": {cache.Config{URL: good, KeyPattern: "k", Action: "flush"}, []string{"action"}},
	} {
		_, err := cache.New(c.cfg, (&net.Dialer{}).DialContext)
		if diff := cmp.Diff(c.want, actiontest.InvalidFields(err)); diff != "" {
			t.Errorf("%s: %v\n%s", name, err, diff)
		}
		if err != nil && strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: the secret shows in %q", name, err)
		}
	}
}
