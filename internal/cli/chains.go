package cli

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/topology"
)

// writeChains prints for people what each action goes through.
func writeChains(w io.Writer, e *topology.Explanation) {
	for _, o := range e.Observers {
		_, _ = fmt.Fprintf(w, "\nobserver %s: %s, order %s, on_failure %s\n", printable(o.Name), printable(o.Entity), orderText(o), o.OnFailure)
		for i, a := range o.Actions {
			writeChain(w, "  ", "action "+strconv.Itoa(i), a)
		}
		if o.Alert != nil {
			writeChain(w, "  ", "alert", *o.Alert)
		}
	}
	if e.Alert != nil {
		_, _ = fmt.Fprintln(w)
		writeChain(w, "", "alert", *e.Alert)
	}
}

func orderText(o topology.ObserverChains) string {
	if o.OnDead == config.OnDeadBlock {
		return string(o.Order) + ", on_dead " + o.OnDead
	}
	return string(o.Order)
}

// writeChain prints one chain, outermost first.
func writeChain(w io.Writer, indent, name string, a topology.ActionChain) {
	_, _ = fmt.Fprintf(w, "%s%s: %s\n", indent, name, printable(actionText(a)))
	t := newTable(w)
	for _, layer := range a.Layers {
		t.row(indent+"  "+layer.Name, layer.Detail)
	}
	if len(a.Worker) < len(a.Layers) { // it has a first pass, too
		t.row(indent+"  from the store", strings.Join(a.Worker, " ▸ "))
	}
	t.end()
	if a.Fallback != nil {
		writeChain(w, indent+"  ", "fallback", *a.Fallback)
	}
}

// actionText is the type of an action, where it begins, and its receiver.
func actionText(a topology.ActionChain) string {
	text := a.Type + ", " + a.Mode
	if len(a.Worker) == len(a.Layers) {
		text = a.Type + ", from the store only"
	}
	if a.Queue != "" {
		text += " in " + a.Queue
	}
	if a.Mode == config.ModeQueued {
		text += ", priority " + strconv.Itoa(a.Priority)
	}
	switch {
	case a.EventDecides:
		text += ", to the receiver that the event names"
	case a.Endpoint != nil:
		text += ", to " + strings.TrimPrefix(*a.Endpoint, a.Type+" ")
	}
	return text
}
