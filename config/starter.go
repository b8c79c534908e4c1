package config

import (
	_ "embed"
	"slices"
)

//go:embed starter.toml
var starter []byte

// Starter is a commented configuration to begin with. It is valid as it is.
func Starter() []byte { return slices.Clone(starter) }
