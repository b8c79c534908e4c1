// The fraiseql-observer command turns committed database changes into actions.
package main

import (
	"context"
	"os"

	"github.com/fraiseql/observer/internal/cli"
)

func main() {
	os.Exit(cli.Main(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}
