// Package slack is the action that posts a message to a Slack incoming webhook.
//
// The text is fixed by the first attempt and stored with the delivery; the
// webhook and the channel follow the configuration of the moment.
package slack
