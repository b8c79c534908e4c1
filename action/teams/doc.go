// Package teams is the action that posts an Adaptive Card to Microsoft Teams: to
// a webhook of Workflows (Power Automate) or to an incoming webhook of a channel.
//
// The card is fixed by the first attempt and stored with the delivery; the
// webhook follows the configuration of the moment.
package teams
