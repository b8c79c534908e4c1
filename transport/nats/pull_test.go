package nats

import (
	"fmt"
	"strings"
	"testing"

	client "github.com/nats-io/nats.go"
)

// TestPullChecksWhatArrives feeds what a server could send after a number of
// messages went missing, which no server does on purpose.
func TestPullChecksWhatArrives(t *testing.T) {
	t.Parallel()
	for title, tt := range map[string]struct {
		last *client.Msg
		want string
	}{
		"the next one":                  {last: delivered(3, 30)},
		"one was lost":                  {last: delivered(4, 40), want: "lost on the way"},
		"one came twice":                {last: delivered(2, 20), want: "lost on the way"},
		"an older message":              {last: delivered(3, 20), want: "lost on the way"},
		"not from a stream":             {last: &client.Msg{Reply: "somewhere", Sub: &client.Subscription{}}, want: "where it stands"},
		"a heartbeat":                   {last: status("100", "Idle Heartbeat", "Nats-Last-Consumer", "2", "Nats-Last-Stream", "25")},
		"a heartbeat, one was lost":     {last: status("100", "Idle Heartbeat", "Nats-Last-Consumer", "3", "Nats-Last-Stream", "30"), want: "lost on the way"},
		"a heartbeat that says nothing": {last: status("100", "Idle Heartbeat"), want: "says not"},
		"the end of a request":          {last: status("408", "Request Timeout", "Nats-Pending-Messages", "1")},
		"no consumer":                   {last: status("409", "Consumer Deleted"), want: "Consumer Deleted"},
		"another leader":                {last: status("409", "Leadership Change"), want: "Leadership Change"},
		"nobody":                        {last: status("503", ""), want: "gone"},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			var failure error
			p := &pull{cfg: SourceConfig{BatchSize: 4}.withDefaults(), fail: func(err error) { failure = err }, arrived: make(chan *arrival, 9), due: 100}
			p.receive(delivered(1, 10))
			p.receive(delivered(2, 20))
			if failure != nil {
				t.Fatal(failure)
			}
			p.receive(tt.last)
			if tt.want == "" && failure != nil || tt.want != "" && (failure == nil || !strings.Contains(failure.Error(), tt.want)) {
				t.Errorf("it failed with %v, want %q", failure, tt.want)
			}
			before := len(p.arrived)
			p.receive(delivered(3, 30))
			if failure != nil && len(p.arrived) > before {
				t.Error("it goes on after a gap")
			}
		})
	}
}

func delivered(number, sequence int) *client.Msg {
	return &client.Msg{Reply: fmt.Sprintf("$JS.ACK.events.c.1.%d.%d.1790000000000000000.0", sequence, number), Sub: &client.Subscription{}}
}

func status(code, text string, headers ...string) *client.Msg {
	h := client.Header{"Status": {code}, "Description": {text}}
	for i := 0; i < len(headers); i += 2 {
		h[headers[i]] = []string{headers[i+1]}
	}
	return &client.Msg{Header: h}
}

// TestProgressWaitsForWhatArrived: the server has looked at more than was given,
// and what stands before that is still to be given.
func TestProgressWaitsForWhatArrived(t *testing.T) {
	t.Parallel()
	r := &reader{pull: &pull{arrived: make(chan *arrival, 1)}}
	r.pull.horizon.Store(9)
	r.over = point{seq: 3}
	r.pull.arrived <- &arrival{record: &record{point: point{seq: 5}}}
	if msg, ok, err := r.progress(t.Context()); ok || err != nil {
		t.Errorf("the position moves to %q, %v, over what is still to come", msg.Position, err)
	}
}
