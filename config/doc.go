// Package config reads the configuration: a TOML file, overridden by the
// environment. The keys are described in docs/configuration.md.
//
// Reading is strict, and it reports everything at once: [Load] returns a
// configuration that is valid to the last template, or [Errors] with the line
// and column of every mistake. Each field declares its key, default and limits
// in its tags, and one walk over the fields reads the file, the environment and
// the defaults, so that no key can exist in one of them and not in the others.
//
// The environment is read by the same walk and not by a library that fills tagged
// structs, because a variable overrides one field of one element of a list
// (FRAISEQL_OBSERVERS_0_ACTIONS_1_URL), its mistakes must be reported with those
// of the file, and the action types add their keys at run time.
//
// What comes from the environment is secret: neither an error nor a printed
// [Config] shows it.
package config
