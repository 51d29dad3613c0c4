//! A man in the middle for demo and tests: serves Docker Content Trust files from a folder over HTTPS, as an attacker
//! with a valid certificate would who has recorded or edited what the real server once sent.

use axum::{
    Router,
    extract::{Path, State},
    http::StatusCode,
    routing::get,
};
use axum_server::tls_rustls::RustlsConfig;
use clap::Parser;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use std::{net::SocketAddr, path::PathBuf, sync::Arc};

/// Serve the file of that name in FOLDER for every `/v2/<gun>/_trust/tuf/<file>`.
#[derive(Parser)]
struct Args {
    #[arg(long)]
    listen: SocketAddr,
    #[arg(long)]
    folder: PathBuf,
    #[arg(long)]
    certificate: PathBuf,
    #[arg(long)]
    key: PathBuf,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let chain = CertificateDer::pem_file_iter(&args.certificate)?.collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_file(&args.key)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    let app = Router::new()
        .route("/v2/", get(async || "{}"))
        .route("/v2/{*path}", get(file))
        .with_state(args.folder);
    let tls = RustlsConfig::from_config(Arc::new(tls));
    axum_server::bind_rustls(args.listen, tls).serve(app.into_make_service()).await?;
    Ok(())
}

async fn file(State(folder): State<PathBuf>, Path(path): Path<String>) -> Result<Vec<u8>, StatusCode> {
    let name = path.rsplit('/').next().unwrap_or_default();
    std::fs::read(folder.join(name)).map_err(|_| StatusCode::NOT_FOUND)
}
