package domain

// EpochStream holds the epochs that one log has had; its first event stands before any other of ours.
const EpochStream = "log-epoch"

// EpochBegan says that from here on the log is in an epoch: the first one, or a higher one after a restore or a copy.
type EpochBegan struct {
	Number int64  `json:"number"`
	ID     string `json:"id"` // random
}

// EpochCatalog is the wire contract of EpochStream.
var EpochCatalog = Catalog{Fact[EpochBegan]("log.epoch.began")}
