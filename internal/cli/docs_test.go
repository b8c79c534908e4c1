package cli

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Every command has a section in docs/cli.md that names each of its flags, and
// no section names one that is not there.
func TestDocumentationHasEveryCommandAndFlag(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "cli.md"))
	if err != nil {
		t.Fatal(err)
	}
	sections := sectionsOf(string(text))
	root := (&cli{}).root()
	root.InitDefaultCompletionCmd()
	commands := 0
	for name, flags := range flagsOf(root) {
		section, ok := sections[name]
		if !ok {
			t.Errorf("docs/cli.md has no section %q", name)
			continue
		}
		commands++
		for flag := range flags {
			if !strings.Contains(section, "`--"+flag) {
				t.Errorf("section %q of docs/cli.md does not name --%s", name, flag)
			}
		}
		for _, row := range regexp.MustCompile("(?m)^\\| `--.*").FindAllString(section, -1) {
			for _, match := range regexp.MustCompile("`--([a-z-]+)").FindAllStringSubmatch(row, -1) {
				if !flags[match[1]] && match[1] != "format" {
					t.Errorf("section %q of docs/cli.md names --%s, which is not there", name, match[1])
				}
			}
		}
	}
	if commands < 15 {
		t.Errorf("only %d commands were checked", commands)
	}
}

// sectionsOf splits a document at its headings.
func sectionsOf(text string) map[string]string {
	sections := map[string]string{}
	headings := regexp.MustCompile(`(?m)^##+ (.*)$`)
	places := headings.FindAllStringSubmatchIndex(text, -1)
	for i, at := range places {
		end := len(text)
		if i+1 < len(places) {
			end = places[i+1][0]
		}
		sections[text[at[2]:at[3]]] = text[at[1]:end]
	}
	return sections
}

// flagsOf are the own flags of every command a user can run, by its name. The
// shells of completion are one command.
func flagsOf(root *cobra.Command) map[string]map[string]bool {
	all := map[string]map[string]bool{}
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		name, _ := strings.CutPrefix(cmd.CommandPath(), program+" ")
		if rest, ok := strings.CutPrefix(name, "completion "); ok && rest != "" {
			name = "completion"
		}
		if cmd != root && !cmd.Hidden {
			if all[name] == nil {
				all[name] = map[string]bool{}
			}
			cmd.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
				if f.Name != "help" && !f.Hidden {
					all[name][f.Name] = true
				}
			})
		}
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(root)
	return all
}
