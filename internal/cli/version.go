package cli

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// build is what the binary knows about itself.
type build struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	// Modified: it was built from sources that differ from the revision.
	Modified bool   `json:"modified,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func readBuild() build {
	b := build{Version: unknownValue, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if info.Main.Version != "" {
		b.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Revision = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	return b
}

func (c *cli) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Say which build this is", Args: arguments(0, 0),
		RunE: c.do(func(*cobra.Command, []string) error { return c.printVersion() }),
	}
}

func (c *cli) printVersion() error {
	b := readBuild()
	return c.print(b, func(w io.Writer) {
		_, _ = fmt.Fprintf(w, "%s %s (%s, %s)\n", program, b.Version, b.Go, b.Platform)
	})
}

// versionFlag gives the root --version, the other way to ask for the version.
func (c *cli) versionFlag(root *cobra.Command) {
	wanted := root.Flags().Bool("version", false, "say which build this is")
	others := root.RunE
	root.RunE = func(cmd *cobra.Command, args []string) error {
		if *wanted && len(args) == 0 {
			c.began = true
			return c.printVersion()
		}
		return others(cmd, args)
	}
}
