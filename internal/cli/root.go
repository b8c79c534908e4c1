package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func (c *cli) root() *cobra.Command {
	root := c.group(&cobra.Command{
		Use:   program,
		Short: "Turn committed database changes into actions",
		Long: "fraiseql-observer reads the change log of a database and runs the actions of\n" +
			"the observers that match: webhooks, Slack messages, emails. Nothing that was\n" +
			"committed is lost.\n\n" +
			"To see it work begin with `fraiseql-observer demo`. To use it: `init` writes a\n" +
			"configuration, `capture add` records a table, `run` delivers its changes.",
	},
		c.runCommand(), c.demoCommand(), c.initCommand(), c.migrateCommand(), c.captureCommand(), c.validateCommand(),
		c.statusCommand(), c.doctorCommand(), c.dlqCommand(), c.endpointsCommand(), c.versionCommand())
	root.SilenceErrors, root.SilenceUsage = true, true
	root.PersistentFlags().Var(&c.format, "format", "how to print results: text or json")
	c.versionFlag(root)
	_ = root.RegisterFlagCompletionFunc("format", cobra.FixedCompletions([]string{"text", "json"}, cobra.ShellCompDirectiveNoFileComp))
	root.SetFlagErrorFunc(flagError)
	return root
}

// group is a command that only holds others. Cobra answers an unknown word
// below the root with the help text and success; a script would take that for
// done.
func (c *cli) group(cmd *cobra.Command, commands ...*cobra.Command) *cobra.Command {
	cmd.AddCommand(commands...)
	cmd.Args = cobra.ArbitraryArgs
	cmd.SuggestionsMinimumDistance = 2
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cmd.Help()
		}
		return unknown(fmt.Sprintf("%s has no command %q", cmd.CommandPath(), args[0]), cmd.SuggestionsFor(args[0]), cmd)
	}
	return cmd
}

// flagError says which flag was probably meant.
func flagError(cmd *cobra.Command, err error) error {
	var missing *pflag.NotExistError
	if !errors.As(err, &missing) || missing.GetSpecifiedShortnames() != "" {
		return err
	}
	// Cobra knows how to find near names among commands, so that is what the
	// flags are made for the question.
	known := &cobra.Command{SuggestionsMinimumDistance: 2}
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		known.AddCommand(&cobra.Command{Use: "--" + f.Name, Run: func(*cobra.Command, []string) {}})
	})
	return unknown(err.Error(), known.SuggestionsFor("--"+missing.GetSpecifiedName()), cmd)
}

func unknown(what string, near []string, cmd *cobra.Command) error {
	if len(near) > 0 {
		return fmt.Errorf("%s: did you mean %s?", what, strings.Join(near, " or "))
	}
	return fmt.Errorf("%s: see %s --help", what, cmd.CommandPath())
}

// arguments checks the number of arguments against the line that shows them.
func arguments(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) < least || len(args) > most {
			return fmt.Errorf("%d arguments given; usage: %s", len(args), cmd.UseLine())
		}
		return nil
	}
}
