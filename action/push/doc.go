// Package push is the action that sends a notification to apps through Firebase
// Cloud Messaging, by its HTTP v1 API.
//
// The title, the text and the data are fixed by the first attempt and stored with
// the delivery; the project, the credentials and who receives it follow the
// configuration of the moment.
package push
