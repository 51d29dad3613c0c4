//! Mirrors of the log: folders, and buckets of a server that speaks S3's protocol.

mod bucket;
mod folder;
mod site;
