//! The kinds of keys that sign, each with its one signature scheme and hash: no key signs in two ways.

/// A kind of key. The names are those of Sigstore's `PublicKeyDetails` (protobuf-specs, `sigstore_common.proto`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// ECDSA on P-256 over SHA-256.
    EcdsaP256,
    /// ECDSA on P-384 over SHA-384.
    EcdsaP384,
    /// RSASSA-PSS over SHA-256 with MGF1 over SHA-256 and a salt of 32 bytes (RFC 8017), 2048 bits.
    RsaPss2048,
    /// The same with 3072 bits.
    RsaPss3072,
    /// The same with 4096 bits.
    RsaPss4096,
    /// Ed25519 over the message itself (RFC 8032).
    Ed25519,
}

impl Algorithm {
    /// Every kind.
    pub const ALL: [Self; 6] = [
        Self::EcdsaP256,
        Self::EcdsaP384,
        Self::RsaPss2048,
        Self::RsaPss3072,
        Self::RsaPss4096,
        Self::Ed25519,
    ];

    /// The name as completions carry it.
    pub fn key_details(self) -> &'static str {
        match self {
            Self::EcdsaP256 => "PKIX_ECDSA_P256_SHA_256",
            Self::EcdsaP384 => "PKIX_ECDSA_P384_SHA_384",
            Self::RsaPss2048 => "PKIX_RSA_PSS_2048_SHA256",
            Self::RsaPss3072 => "PKIX_RSA_PSS_3072_SHA256",
            Self::RsaPss4096 => "PKIX_RSA_PSS_4096_SHA256",
            Self::Ed25519 => "PKIX_ED25519",
        }
    }

    /// What operators call it, as in `chancery-keeper admin key generate --type`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::EcdsaP256 => "p256",
            Self::EcdsaP384 => "p384",
            Self::RsaPss2048 => "rsa2048",
            Self::RsaPss3072 => "rsa3072",
            Self::RsaPss4096 => "rsa4096",
            Self::Ed25519 => "ed25519",
        }
    }
}

impl std::fmt::Display for Algorithm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
