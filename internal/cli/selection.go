package cli

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/delivery"
)

// selection is which dead letters a command is about.
type selection struct {
	filter observer.DeliveryFilter
	// entity is TYPE or TYPE/ID.
	entity       string
	action       index
	reason       reason
	print        fingerprint
	since, until instant
}

// flags adds those that every command has which works on several dead letters.
// limit is how many it takes unless it is told; 0 for all.
func (s *selection) flags(cmd *cobra.Command, limit int) {
	f := cmd.Flags()
	f.StringVar(&s.filter.Observer, "observer", "", "only those of this `OBSERVER`")
	f.Var(&s.action, "action", "only those of the action with this index, from 0")
	f.StringVar(&s.filter.ActionType, "type", "", "only those of actions of this `TYPE`, such as webhook")
	f.StringVar(&s.entity, "entity", "", "only those about this `TYPE[/ID]` of entity, such as Order or Order/17")
	f.StringVar(&s.filter.EventID, "event", "", "only those of the event with this `ID`")
	f.Var(&s.reason, "reason", "only those dead for this reason, such as exhausted")
	f.Var(&s.print, "error", "only those whose last error has this fingerprint, as dlq stats --by-error lists them")
	f.StringVar(&s.filter.Endpoint, "endpoint", "", "only those to this `ENDPOINT`, as endpoints list names it")
	f.Var(&s.since, "since", "only those stored since a TIME (2026-01-31T08:00:00Z) or in the last DURATION (90m)")
	f.Var(&s.since, "after", "the same as --since")
	f.Var(&s.until, "until", "only those stored before a TIME, or longer ago than a DURATION")
	f.IntVar(&s.filter.Limit, "limit", limit, "how many to take at most"+unlessAll(limit))
	f.IntVar(&s.filter.Offset, "offset", 0, "how many to pass over first")
	_ = cmd.RegisterFlagCompletionFunc("reason", cobra.FixedCompletions(reasons(), cobra.ShellCompDirectiveNoFileComp))
}

func unlessAll(limit int) string {
	if limit == 0 {
		return "; 0 takes all"
	}
	return ""
}

// narrowed reports whether any of the flags says which ones.
func (s *selection) narrowed(cmd *cobra.Command) bool {
	return slices.ContainsFunc(
		[]string{"observer", "action", "type", "entity", "event", "reason", "error", "endpoint", "since", "after", "until", "limit"},
		cmd.Flags().Changed)
}

// dead is the filter for the dead letters that the flags select.
func (s *selection) dead() (observer.DeliveryFilter, error) {
	f := s.filter
	if f.Limit < 0 || f.Offset < 0 {
		return f, usageError(errors.New("--limit and --offset must be at least 0"))
	}
	f.State, f.Reason, f.Fingerprint = observer.Dead, s.reason.Reason, s.print.text
	f.Since, f.Until, f.Action = s.since.Time, s.until.Time, s.action.value
	f.EntityType, f.EntityID, _ = strings.Cut(s.entity, "/")
	return f, nil
}

// index is the value of --action.
type index struct{ value *int }

// String, Set and Type make it a flag.
func (i *index) String() string {
	if i.value == nil {
		return ""
	}
	return strconv.Itoa(*i.value)
}

// Set takes an index from 0.
func (i *index) Set(s string) error {
	n, err := strconv.Atoi(s)
	if err != nil || n < 0 {
		return errors.New("want the index of an action, from 0")
	}
	i.value = &n
	return nil
}

// Type is the word for the value in the help text.
func (i *index) Type() string { return "INDEX" }

// reason is the value of --reason.
type reason struct{ observer.Reason }

// reasons are those that a dead letter can have.
func reasons() []string {
	var list []string
	for _, r := range delivery.Reasons() {
		list = append(list, string(r))
	}
	return list
}

// String, Set and Type make it a flag.
func (r *reason) String() string { return string(r.Reason) }

// Set takes one of the reasons.
func (r *reason) Set(s string) error {
	if !slices.Contains(reasons(), s) {
		return fmt.Errorf("want one of %s", strings.Join(reasons(), ", "))
	}
	r.Reason = observer.Reason(s)
	return nil
}

// Type is the word for the value in the help text.
func (r *reason) Type() string { return "REASON" }

// state is the value of --state: a state, or anyState.
type state observer.State

// anyState selects every stored delivery.
const anyState state = "all"

// states are what --state takes.
func states() []string {
	list := []string{string(anyState)}
	for _, s := range observer.States() {
		list = append(list, string(s))
	}
	return list
}

func (s *state) flag(cmd *cobra.Command) {
	cmd.Flags().Var(s, "state", "those in this state: "+strings.Join(states()[1:], ", ")+"; or "+string(anyState))
	_ = cmd.RegisterFlagCompletionFunc("state", cobra.FixedCompletions(states(), cobra.ShellCompDirectiveNoFileComp))
}

// filter is "" for every state.
func (s *state) filter() observer.State {
	if *s == anyState {
		return ""
	}
	return observer.State(*s)
}

// none says that there are none.
func (s *state) none() string {
	switch *s {
	case anyState:
		return "no deliveries"
	case state(observer.Dead):
		return "no dead letters"
	}
	return "no deliveries that are " + string(*s)
}

// String, Set and Type make it a flag.
func (s *state) String() string { return string(*s) }

// Set takes one of the states.
func (s *state) Set(text string) error {
	if !slices.Contains(states(), text) {
		return fmt.Errorf("want one of %s", strings.Join(states(), ", "))
	}
	*s = state(text)
	return nil
}

// Type is the word for the value in the help text.
func (s *state) Type() string { return "STATE" }

// fingerprint is the value of --error.
type fingerprint struct{ text string }

var fingerprints = regexp.MustCompile(`^[0-9a-f]{8}$`)

// String, Set and Type make it a flag.
func (p *fingerprint) String() string { return p.text }

// Set takes what [observer.Fingerprint] gives.
func (p *fingerprint) Set(s string) error {
	if !fingerprints.MatchString(s) {
		return fmt.Errorf("want a fingerprint of 8 digits, as `%s dlq stats --by-error` lists them", program)
	}
	p.text = s
	return nil
}

// Type is the word for the value in the help text.
func (p *fingerprint) Type() string { return "FINGERPRINT" }

// instant is the value of --since and --until.
type instant struct{ time.Time }

// String, Set and Type make it a flag.
func (i *instant) String() string {
	if i.IsZero() {
		return ""
	}
	return i.Format(time.RFC3339)
}

// Set takes a time or the length of the time up to now.
func (i *instant) Set(s string) error {
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		i.Time = t
		return nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return errors.New("want a time such as 2026-01-31T08:00:00Z or a duration such as 90m")
	}
	i.Time = time.Now().Add(-d)
	return nil
}

// Type is the word for the value in the help text.
func (i *instant) Type() string { return "TIME" }
