package config

import "reflect"

// Diff names the sections in which next differs and which take effect only
// after a restart: every one but the observers and the alert. Two reads of one
// file under one environment do not differ.
func (c *Config) Diff(next *Config) []string {
	var changed []string
	before, after := reflect.ValueOf(c).Elem(), reflect.ValueOf(next).Elem()
	for i := range before.NumField() {
		section := before.Type().Field(i).Tag.Get("toml")
		switch section {
		case "", "-", "observers", "alert":
			continue
		}
		if !reflect.DeepEqual(before.Field(i).Interface(), after.Field(i).Interface()) {
			changed = append(changed, section)
		}
	}
	return changed
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
	return warnings
}
