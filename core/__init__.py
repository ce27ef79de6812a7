"""What every process shares, and nothing heavy: domain, errors, settings, log, UIDs, spool, ledger, doorbell."""
