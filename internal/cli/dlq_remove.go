package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/delivery"
)

// removal is what dlq remove is told.
type removal struct {
	chosen   selection
	all, yes bool
	dryRun   *bool
	rate     rate
}

func (c *cli) dlqRemove() *cobra.Command {
	var r removal
	cmd := &cobra.Command{
		Use: "remove [KEY]", SuggestFor: []string{"rm", "delete"}, Short: "Discard dead letters for good",
		Long: "Discard the dead letter with a KEY, or those that the flags select, for good: their\n" +
			"actions will not run. More than one is removed only with --yes, or when the\n" +
			"question on the terminal is answered with yes. Ctrl-C stops and says how far it came.",
		Args: arguments(0, 1),
	}
	c.settings.flags(cmd)
	r.chosen.flags(cmd, 0)
	cmd.Flags().BoolVar(&r.all, "all", false, "all dead letters")
	cmd.Flags().BoolVar(&r.yes, "yes", false, "remove more than one without asking")
	r.rate.flag(cmd)
	r.dryRun = dryRunFlag(cmd)
	cmd.RunE = c.do(func(cmd *cobra.Command, args []string) error {
		many := r.all || r.chosen.narrowed(cmd)
		switch {
		case len(args) == 1 && many:
			return usageError(errors.New("give a KEY, or flags that select some, not both"))
		case len(args) == 1:
			return c.removeOne(cmd, args[0], *r.dryRun)
		case !many:
			return usageError(fmt.Errorf("which dead letters? give a KEY, or flags that select some, or --all; see %s --help", cmd.CommandPath()))
		}
		return c.removeMany(cmd, &r)
	})
	return cmd
}

func (c *cli) removeOne(cmd *cobra.Command, key string, dryRun bool) error {
	d, err := c.dead(cmd, key)
	if err != nil {
		return err
	}
	if dryRun {
		return c.printOutcome(outcome{Key: d.Key, Result: wouldRemove}, "would remove %s", describe(d))
	}
	err = c.withState(cmd.Context(), writeState, func(store observer.StateStore) error {
		return store.RemoveDelivery(cmd.Context(), key)
	})
	if err != nil {
		return notFound(d.Key, err)
	}
	return c.printOutcome(outcome{Key: d.Key, Result: removed}, "removed %s", describe(d))
}

func (c *cli) removeMany(cmd *cobra.Command, r *removal) error {
	filter, err := r.chosen.dead()
	if err := errors.Join(err, r.rate.check()); err != nil {
		return err
	}
	keys, err := c.deadKeys(cmd.Context(), filter)
	if err != nil {
		return err
	}
	if *r.dryRun || len(keys) == 0 {
		return c.would(&changes{Total: len(keys), DryRun: *r.dryRun}, keys, wouldRemove)
	}
	if len(keys) > 1 && !r.yes {
		if err := c.confirm(cmd.InOrStdin(), fmt.Sprintf("remove %s for good?", count(len(keys), "dead letter"))); err != nil {
			return err
		}
	}
	filter.Limit = len(keys) // not more than were asked about
	return c.bulk(cmd.Context(), bulk{word: removed, run: delivery.Discard, filter: filter, rate: r.rate})
}

// errUnconfirmed: the answer was not yes.
var errUnconfirmed = errors.New("nothing was removed")

// confirm asks a question on the terminal; without one it cannot.
func (c *cli) confirm(in io.Reader, question string) error {
	if f, ok := in.(*os.File); !ok || !term.IsTerminal(int(f.Fd())) {
		return usageError(fmt.Errorf("%s Say so with --yes, or see with --dry-run which", question))
	}
	return c.ask(in, question)
}

func (c *cli) ask(in io.Reader, question string) error {
	_, _ = fmt.Fprintf(c.err, "%s [yes/no] ", question)
	answer, err := bufio.NewReader(in).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if a := strings.ToLower(strings.TrimSpace(answer)); a != "y" && a != "yes" {
		return errUnconfirmed
	}
	return nil
}
