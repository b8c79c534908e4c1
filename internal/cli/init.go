package cli

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/spf13/cobra"

	"github.com/fraiseql/observer/config"
)

func (c *cli) initCommand() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "init [FILE]",
		Short: "Write a commented starter configuration",
		Long: "Write a commented starter configuration to FILE, or where --config says. A file\n" +
			"that exists is left alone unless --force is given.",
		Args: arguments(0, 1),
	}
	c.settings.configFlag(cmd)
	cmd.Flags().BoolVar(&force, "force", false, "overwrite a file that exists")
	cmd.RunE = c.do(func(cmd *cobra.Command, args []string) error {
		path, err := c.settings.positional(cmd, args)
		if err != nil {
			return err
		}
		if err := writeStarter(path, force); err != nil {
			return err
		}
		return c.print(map[string]string{"file": path}, func(w io.Writer) {
			_, _ = fmt.Fprintf(w, "wrote %s\n"+
				"next: set its database, then\n"+
				"  %s validate-config %[1]s\n"+
				"  %[2]s capture add --table TABLE --entity ENTITY --config %[1]s\n"+
				"  %[2]s run --config %[1]s\n", path, program)
		})
	})
	return cmd
}

// positional is the configuration file as FILE or --config name it.
func (s *settings) positional(cmd *cobra.Command, args []string) (string, error) {
	if len(args) == 0 {
		return s.config, nil
	}
	if cmd.Flags().Changed("config") && s.config != args[0] {
		return "", usageError(errors.New("FILE and --config name two files: give one of them"))
	}
	return args[0], nil
}

// writeStarter creates the file readable by its owner only: secrets will stand
// in it.
func writeStarter(path string, force bool) error {
	flags := os.O_WRONLY | os.O_CREATE | os.O_EXCL
	if force {
		flags = os.O_WRONLY | os.O_CREATE | os.O_TRUNC
	}
	f, err := os.OpenFile(path, flags, 0o600) //nolint:gosec // the path is what the user asked for
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s exists: name another file, or overwrite it with --force", path)
	}
	if err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	if _, err := f.WriteString(string(config.Starter())); err != nil {
		return errors.Join(fmt.Errorf("write configuration: %w", err), f.Close())
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("write configuration: %w", err)
	}
	return nil
}
