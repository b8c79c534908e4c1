// Package discord is the action that posts a message through a webhook of a
// Discord channel.
//
// The text and the embeds are fixed by the first attempt and stored with the
// delivery; the webhook, the thread and the name of the sender follow the
// configuration of the moment.
package discord
