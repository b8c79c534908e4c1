package config

import (
	"fmt"
	"reflect"
	"strings"

	"github.com/fraiseql/observer/action/webhook"
)

// Diff names the sections in which next differs and which take effect only
// after a restart: every one but the observers, the alert, the mail server and
// those keys of the job queue that are defaults of the observers' retries. Two
// reads of one file under one environment do not differ.
func (c *Config) Diff(next *Config) []string {
	var changed []string
	before, after := c.lasting(), next.lasting()
	for i := range before.NumField() {
		section := before.Type().Field(i).Tag.Get("toml")
		switch section {
		case "", "-", "observers", "alert", "smtp":
			continue
		}
		if !reflect.DeepEqual(before.Field(i).Interface(), after.Field(i).Interface()) {
			changed = append(changed, section)
		}
	}
	return changed
}

// lasting is c without what has taken effect as a part of the observers by the
// time it is read.
func (c *Config) lasting() reflect.Value {
	rest := *c
	rest.JobQueue.MaxRetries, rest.JobQueue.InitialDelay, rest.JobQueue.MaxDelay = 0, 0, 0
	return reflect.ValueOf(rest)
}

// Warnings are what is valid and probably not meant, a sentence each.
func (c *Config) Warnings() []string {
	var warnings []string
	if len(c.Observers) == 0 {
		warnings = append(warnings, "there are no observers: changes are read and nothing is done about them")
	}
	for _, prefix := range c.Network.Allow {
		if prefix.Bits() == 0 {
			warnings = append(warnings, "network.allow has "+prefix.String()+": actions may reach every private address")
		}
	}
	if c.Alert != nil {
		warnings = append(warnings, c.Alert.Action.warnings("alert")...)
	}
	for i, o := range c.Observers {
		for j, a := range o.Actions {
			path := fmt.Sprintf("observers[%d].actions[%d]", i, j)
			warnings = append(warnings, a.warnings(path)...)
			if a.Fallback != nil {
				warnings = append(warnings, a.Fallback.Action.warnings(path+".fallback")...)
			}
		}
		if o.Alert != nil {
			warnings = append(warnings, o.Alert.Action.warnings(fmt.Sprintf("observers[%d].alert", i))...)
		}
	}
	return warnings
}

// warnings names the keys of an action that say nothing of being secret and have
// a secret in the file.
func (a Action) warnings(path string) []string {
	hook, ok := a.Config.(*webhook.Config)
	if !ok {
		return nil
	}
	var warnings []string
	for _, key := range a.credentials(hook) {
		warnings = append(warnings, fmt.Sprintf("%s.%s has a credential in the file: write %s = \"NAME\" or ${NAME} to take it from the environment",
			path, key, key[strings.LastIndexByte(key, '.')+1:]+twin))
	}
	return warnings
}
