// Package cache is the action that removes keys from a Redis cache, one or all
// that match a pattern.
//
// The key is rendered before the first attempt and stored with the delivery;
// the server follows the configuration of the moment. Removing is harmless to
// repeat.
package cache
