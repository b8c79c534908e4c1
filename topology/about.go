package topology

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/middleware"
)

// What follows says in words what the layers of an action do. All of it is from
// the configuration, and there is no secret in it.

// span writes a time as people do: 72h, not 72h0m0s.
func span(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// several is a number with its noun.
func several(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return strconv.Itoa(n) + " " + noun + "s"
}

func aboutFirstPass(a config.Action, act observer.Action) string {
	_, prepared := act.(observer.Preparer)
	switch {
	case a.Mode == config.ModeQueued && a.Delay > 0:
		return "stored at once; a worker makes every attempt, the first after " + span(a.Delay)
	case a.Mode == config.ModeQueued:
		return "stored at once; a worker makes every attempt"
	case a.OnUnknown == config.OnUnknownDeadLetter:
		return "stored before the first attempt; the lane waits up to " + span(a.Retry.InlineBudget) + " for that"
	case !prepared:
		return "in the lane until it ends"
	}
	return "in the lane up to " + span(a.Retry.InlineBudget) + ", then stored, and the lane goes on"
}

func aboutFailure(o config.Observer) string {
	switch middleware.OnFailure(o.OnFailure) {
	case middleware.LogOnly:
		return "what is given up is dropped, with a line in the log"
	case middleware.Alert:
		return "what is given up is kept for a person, and raises the alert"
	default:
		return "what is given up is kept for a person"
	}
}

func aboutDedup(cfg *config.Config) string {
	text := "once for each delivery: "
	if cfg.Redis.Configured() {
		text += "Redis in front of the state store"
	} else {
		text += "state store"
	}
	text += ", kept " + span(dedupKeep(cfg))
	if cfg.Dedup.OnError == config.DedupOpen {
		return text + `; handled anyway when none answers`
	}
	return text + "; waits when none answers"
}

func aboutFallback(f config.Fallback) string {
	when := "when it is given up"
	if f.When == config.WhenOpen {
		when += ", and while the breaker is open"
	}
	return "a delivery of its own by " + f.Action.Type + " " + when
}

func aboutCache(cfg *config.Config, c config.ActionCache) string {
	where, by := "in memory", "by the rendered request"
	if cfg.Redis.Configured() {
		where = "in Redis"
	}
	if c.Template != nil {
		by = "by its key"
	}
	return span(c.TTL) + " " + where + ", " + by
}

// shownWaits is how many waits of a schedule are written out.
const shownWaits = 6

func aboutRetry(a config.Action, lane time.Duration) string {
	r := a.Retry
	text := several(r.MaxAttempts, "attempt")
	switch {
	case r.MaxAttempts <= 1: // there is no wait
	case r.Schedule != nil:
		text += ", after " + aboutSchedule(r.Schedule)
	case r.InitialDelay == r.MaxDelay, r.Backoff == "fixed":
		text += ", " + r.Backoff + " " + span(r.InitialDelay)
	default:
		text += ", " + r.Backoff + " " + span(r.InitialDelay) + ".." + span(r.MaxDelay)
	}
	if r.MaxAge > 0 {
		text += ", given up after " + span(r.MaxAge)
	}
	if a.OnUnknown == config.OnUnknownDeadLetter {
		return text + "; none after one that may have arrived"
	}
	if lane > 0 && r.MaxAttempts > 1 && a.Mode != config.ModeQueued {
		text += ", in the lane up to " + span(lane)
	}
	return text
}

func aboutSchedule(waits []time.Duration) string {
	shown := make([]string, 0, shownWaits)
	for _, wait := range waits[:min(len(waits), shownWaits)] {
		shown = append(shown, span(wait))
	}
	text := strings.Join(shown, ", ")
	if more := len(waits) - shownWaits; more > 0 {
		text += " and " + strconv.Itoa(more) + " more"
	}
	return text
}

func aboutBreaker(to receiver) string {
	if !to.breaker.Enabled {
		return "none, but for receivers with an override; the event decides"
	}
	b := to.breaker
	text := fmt.Sprintf("opens at %d%% of >=%s in %s, open %s, %s",
		b.FailureRate, several(b.MinCalls, "call"), span(b.Window), span(b.OpenFor), several(b.Probes, "probe"))
	return text + otherwise(to, func(o config.Override) bool { return o.Breaker != b })
}

func aboutLimits(a config.Action, to receiver, patience time.Duration) string {
	if !limited(to.limits) {
		return "none, but for receivers with an override; the event decides"
	}
	var parts []string
	if n := to.limits.MaxConcurrent; n > 0 {
		parts = append(parts, strconv.Itoa(n)+" at once")
	}
	if rate := to.limits.Rate; rate > 0 {
		burst := to.limits.Burst
		if burst == 0 {
			burst = max(int(math.Ceil(rate)), 1)
		}
		parts = append(parts, strconv.FormatFloat(rate, 'g', -1, 64)+" a second, bursts of "+strconv.Itoa(burst))
	}
	if patience > 0 && a.Mode != config.ModeQueued {
		parts = append(parts, "in the lane up to "+span(patience))
	}
	return strings.Join(parts, ", ") + otherwise(to, func(o config.Override) bool { return o.Limits != to.limits })
}

// otherwise says that something else may hold, because the event decides.
func otherwise(to receiver, differs func(config.Override) bool) string {
	if slices.ContainsFunc(to.others, differs) {
		return "; overrides differ"
	}
	return ""
}

func aboutHealth(e config.Endpoints) string {
	if e.DisableAfter == 0 {
		return "the health of the receiver: paused when it is gone"
	}
	return "the health of the receiver: paused when it is gone or fails for " + span(e.DisableAfter) + ", then tried every " + span(e.ProbeInterval)
}
