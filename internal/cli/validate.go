package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/topology"
)

// validation is the result of validate-config.
type validation struct {
	File      string        `json:"file"`
	Valid     bool          `json:"valid"`
	Databases int           `json:"databases"`
	Observers int           `json:"observers"`
	Actions   int           `json:"actions"`
	Errors    config.Errors `json:"errors"`
	Warnings  []string      `json:"warnings"`
	// Chains are there when they were asked for and the configuration is valid.
	Chains *topology.Explanation `json:"chains,omitempty"`
}

func (c *cli) validateCommand() *cobra.Command {
	var explained bool
	cmd := &cobra.Command{
		Use:   "validate-config [FILE]",
		Short: "Check a configuration and list every mistake",
		Long: "Check FILE, or what --config names, with the environment as it is, and list\n" +
			"every mistake as file:line:column: key: message. Nothing is connected to.\n" +
			"With --explain also print what a delivery of each action goes through, from the\n" +
			"outside in, with the settings that a daemon started now would have.",
		Args: arguments(0, 1),
	}
	c.settings.flags(cmd)
	cmd.Flags().BoolVar(&explained, "explain", false, "also print the chain of each action")
	cmd.RunE = c.do(func(cmd *cobra.Command, args []string) error {
		path, err := c.settings.positional(cmd, args)
		if err != nil {
			return err
		}
		c.settings.config = path
		return c.validate(cmd.Context(), explained)
	})
	return cmd
}

func (c *cli) validate(ctx context.Context, explained bool) error {
	cfg, err := c.settings.loadAll()
	result := validation{File: c.settings.config, Valid: err == nil, Errors: config.Errors{}, Warnings: []string{}}
	if err != nil && !errors.As(err, &result.Errors) {
		return err
	}
	if err == nil {
		result.count(cfg)
	}
	if err == nil && explained {
		chains, err := topology.Explain(ctx, cfg)
		if err != nil {
			return err
		}
		result.Chains = &chains
	}
	if printed := c.print(result, result.text); printed != nil {
		return printed
	}
	if !result.Valid {
		return &codedError{code: exitInvalid}
	}
	return nil
}

func (v *validation) count(cfg *config.Config) {
	v.Databases, v.Observers = len(cfg.Databases), len(cfg.Observers)
	v.Warnings = append(v.Warnings, cfg.Warnings()...)
	for _, o := range cfg.Observers {
		v.Actions += len(o.Actions)
	}
}

func (v *validation) text(w io.Writer) {
	for _, warning := range v.Warnings {
		_, _ = fmt.Fprintln(w, "warning: "+printable(warning))
	}
	if v.Valid {
		_, _ = fmt.Fprintf(w, "ok: %s, %s, %s\n", count(v.Databases, "database"), count(v.Observers, "observer"), count(v.Actions, "action"))
		if v.Chains != nil {
			writeChains(w, v.Chains)
		}
		return
	}
	for _, e := range v.Errors {
		_, _ = fmt.Fprintln(w, printable(e.Error()))
	}
}

// count is a number with its noun.
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return strconv.Itoa(n) + " " + noun + "s"
}
