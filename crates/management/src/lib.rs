//! ROOM 1: functions come and go.
