package config

import (
	"cmp"
	"fmt"
	"net"
	"net/url"
	"reflect"
	"strings"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/action/slack"
	"github.com/fraiseql/observer/action/webhook"
	"github.com/fraiseql/observer/internal/outbound"
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
	if len(c.Observers) == 0 && c.Transport.RunExecutors {
		warnings = append(warnings, "there are no observers: changes are read and nothing is done about them")
	}
	warnings = append(warnings, c.Network.warnings()...)
	if c.Transport.Distributed() {
		warnings = append(warnings, c.Transport.NATS.warnings()...)
	}
	warnings = append(warnings, c.idle...)
	network := c.Network.Outbound()
	warnings = append(warnings, c.serverWarnings(network)...)
	add := func(path string, a Action) {
		warnings = append(warnings, a.warnings(path)...)
		warnings = append(warnings, a.refusals(path, network)...)
	}
	if c.Alert != nil {
		add("alert", c.Alert.Action)
	}
	for i, o := range c.Observers {
		for j, a := range o.Actions {
			path := fmt.Sprintf("observers[%d].actions[%d]", i, j)
			add(path, a)
			if a.Fallback != nil {
				add(path+".fallback", a.Fallback.Action)
			}
		}
		if o.Alert != nil {
			add(fmt.Sprintf("observers[%d].alert", i), o.Alert.Action)
		}
	}
	return warnings
}

// serverWarnings say that the mail server will be refused.
func (c *Config) serverWarnings(network *outbound.Network) []string {
	if c.SMTP.Host == "" {
		return nil
	}
	host, port, err := net.SplitHostPort(c.SMTP.Address())
	if err != nil {
		return nil // building the actions has said so
	}
	if err := network.Check(host, port); err != nil {
		return []string{"smtp: no message will be sent: " + err.Error()}
	}
	return nil
}

// refusals say that a receiver will be refused, where that is certain without
// asking for a name.
func (a Action) refusals(path string, network *outbound.Network) []string {
	var key, to string
	var redactor observer.Redactor
	switch cfg := a.Config.(type) {
	case *webhook.Config:
		key, to, redactor = "url", cfg.URL, cfg.Redactor
	case *slack.Config:
		key, to, redactor = "webhook_url", cfg.WebhookURL.Reveal(), cfg.Redactor
	}
	u, err := url.Parse(to)
	if err != nil || u.Hostname() == "" || strings.Contains(u.Host, "{") {
		return nil
	}
	standard := "443"
	if u.Scheme == "http" {
		standard = "80"
	}
	err = network.Check(u.Hostname(), cmp.Or(u.Port(), standard))
	if err == nil {
		return nil
	}
	return []string{fmt.Sprintf("%s.%s: no request will be sent: %s", path, key, redactor.Redact(err.Error()))}
}

// warnings names the keys of an action that say nothing of being secret and have
// a secret in the file, and a cache that is of no use.
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
	if warning := a.cacheWarning(path, hook); warning != "" {
		warnings = append(warnings, warning)
	}
	return warnings
}
