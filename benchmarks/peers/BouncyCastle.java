// CMP over Bouncy Castle, both ends in one thread: ir -> ip under PasswordBasedMac with implicit confirmation, the work of the
// other peers. After a warm-up, each line on standard input starts a round; the answer is the CPU of one enrollment in microseconds.
//   java -cp bcprov.jar:bcutil.jar:bcpkix.jar BouncyCastle.java COUNT WARM_UP

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.lang.management.ManagementFactory;
import java.lang.management.ThreadMXBean;
import java.math.BigInteger;
import java.security.KeyPair;
import java.security.KeyPairGenerator;
import java.security.SecureRandom;
import java.security.Security;
import java.security.spec.ECGenParameterSpec;
import java.util.Arrays;
import java.util.Date;
import org.bouncycastle.asn1.ASN1OctetString;
import org.bouncycastle.asn1.DERNull;
import org.bouncycastle.asn1.DEROctetString;
import org.bouncycastle.asn1.cmp.CMPCertificate;
import org.bouncycastle.asn1.cmp.CMPObjectIdentifiers;
import org.bouncycastle.asn1.cmp.CertOrEncCert;
import org.bouncycastle.asn1.cmp.CertRepMessage;
import org.bouncycastle.asn1.cmp.CertResponse;
import org.bouncycastle.asn1.cmp.CertifiedKeyPair;
import org.bouncycastle.asn1.cmp.InfoTypeAndValue;
import org.bouncycastle.asn1.cmp.PBMParameter;
import org.bouncycastle.asn1.cmp.PKIBody;
import org.bouncycastle.asn1.cmp.PKIHeader;
import org.bouncycastle.asn1.cmp.PKIStatus;
import org.bouncycastle.asn1.cmp.PKIStatusInfo;
import org.bouncycastle.asn1.crmf.CertReqMessages;
import org.bouncycastle.asn1.crmf.CertTemplate;
import org.bouncycastle.asn1.iana.IANAObjectIdentifiers;
import org.bouncycastle.asn1.nist.NISTObjectIdentifiers;
import org.bouncycastle.asn1.x500.X500Name;
import org.bouncycastle.asn1.x509.AlgorithmIdentifier;
import org.bouncycastle.asn1.x509.BasicConstraints;
import org.bouncycastle.asn1.x509.Extension;
import org.bouncycastle.asn1.x509.GeneralName;
import org.bouncycastle.asn1.x509.KeyUsage;
import org.bouncycastle.asn1.x509.SubjectPublicKeyInfo;
import org.bouncycastle.cert.X509CertificateHolder;
import org.bouncycastle.cert.X509v3CertificateBuilder;
import org.bouncycastle.cert.cmp.GeneralPKIMessage;
import org.bouncycastle.cert.cmp.ProtectedPKIMessage;
import org.bouncycastle.cert.cmp.ProtectedPKIMessageBuilder;
import org.bouncycastle.cert.crmf.CertificateRequestMessage;
import org.bouncycastle.cert.crmf.CertificateRequestMessageBuilder;
import org.bouncycastle.cert.crmf.PKMACBuilder;
import org.bouncycastle.cert.crmf.jcajce.JcePKMACValuesCalculator;
import org.bouncycastle.cert.jcajce.JcaX509ExtensionUtils;
import org.bouncycastle.jce.provider.BouncyCastleProvider;
import org.bouncycastle.operator.ContentSigner;
import org.bouncycastle.operator.jcajce.JcaContentSignerBuilder;
import org.bouncycastle.operator.jcajce.JcaContentVerifierProviderBuilder;

public class BouncyCastle {
    private static final byte[] REFERENCE = "device".getBytes();
    private static final char[] SECRET = "anchor-secret".toCharArray();
    private static final X500Name DEVICE = new X500Name("CN=device");
    private static final X500Name ISSUER = new X500Name("CN=Peer CA");
    private static final SecureRandom RANDOM = new SecureRandom();
    private static final AlgorithmIdentifier SHA256 = new AlgorithmIdentifier(NISTObjectIdentifiers.id_sha256, DERNull.INSTANCE);
    private static final AlgorithmIdentifier HMAC = new AlgorithmIdentifier(IANAObjectIdentifiers.hmacSHA1, DERNull.INSTANCE);

    private final KeyPair caKey;
    private final KeyPair deviceKey;
    private final SubjectPublicKeyInfo devicePublic;
    private final ContentSigner caSigner;
    private final ContentSigner deviceSigner;
    private final JcaX509ExtensionUtils extensions = new JcaX509ExtensionUtils();

    BouncyCastle() throws Exception {
        KeyPairGenerator generator = KeyPairGenerator.getInstance("EC", "BC");
        generator.initialize(new ECGenParameterSpec("P-256"));
        caKey = generator.generateKeyPair();
        deviceKey = generator.generateKeyPair();
        devicePublic = SubjectPublicKeyInfo.getInstance(deviceKey.getPublic().getEncoded());
        caSigner = new JcaContentSignerBuilder("SHA256withECDSA").setProvider("BC").build(caKey.getPrivate());
        deviceSigner = new JcaContentSignerBuilder("SHA256withECDSA").setProvider("BC").build(deviceKey.getPrivate());
    }

    private static byte[] fresh(int length) {
        byte[] bytes = new byte[length];
        RANDOM.nextBytes(bytes);
        return bytes;
    }

    private static PKMACBuilder macs() throws Exception {
        return new PKMACBuilder(new JcePKMACValuesCalculator().setProvider("BC"))
                .setParameters(new PBMParameter(fresh(16), SHA256, 500, HMAC));
    }

    private static void check(boolean holds, String what) {
        if (!holds) {
            throw new IllegalStateException(what);
        }
    }

    private byte[] request(byte[] transaction, byte[] nonce) throws Exception {
        CertificateRequestMessage request = new CertificateRequestMessageBuilder(BigInteger.ZERO)
                .setSubject(DEVICE)
                .setPublicKey(devicePublic)
                .setProofOfPossessionSigningKeySigner(deviceSigner)
                .build();
        return new ProtectedPKIMessageBuilder(new GeneralName(DEVICE), new GeneralName(ISSUER))
                .setMessageTime(new Date())
                .setSenderKID(REFERENCE)
                .setTransactionID(transaction)
                .setSenderNonce(nonce)
                .addGeneralInfo(new InfoTypeAndValue(CMPObjectIdentifiers.it_implicitConfirm, DERNull.INSTANCE))
                .setBody(new PKIBody(PKIBody.TYPE_INIT_REQ, new CertReqMessages(request.toASN1Structure())))
                .build(macs().build(SECRET))
                .toASN1Structure()
                .getEncoded("DER");
    }

    private X509CertificateHolder issue(X500Name subject, SubjectPublicKeyInfo key) throws Exception {
        Date now = new Date();
        return new X509v3CertificateBuilder(
                        ISSUER, new BigInteger(158, RANDOM), now, new Date(now.getTime() + 90L * 86400_000), subject, key)
                .addExtension(Extension.basicConstraints, true, new BasicConstraints(false))
                .addExtension(Extension.keyUsage, true, new KeyUsage(KeyUsage.digitalSignature))
                .addExtension(Extension.subjectKeyIdentifier, false, extensions.createSubjectKeyIdentifier(key))
                .addExtension(Extension.authorityKeyIdentifier, false, extensions.createAuthorityKeyIdentifier(caKey.getPublic()))
                .build(caSigner);
    }

    private byte[] handle(byte[] der) throws Exception {
        GeneralPKIMessage general = new GeneralPKIMessage(der);
        ProtectedPKIMessage message = new ProtectedPKIMessage(general);
        PKIHeader header = message.getHeader();
        check(Arrays.equals(header.getSenderKID().getOctets(), REFERENCE), "reference");
        check(message.verify(macs(), SECRET), "MAC of the request");
        CertificateRequestMessage request =
                new CertificateRequestMessage(CertReqMessages.getInstance(message.getBody().getContent()).toCertReqMsgArray()[0]);
        CertTemplate template = request.getCertTemplate();
        check(
                request.isValidSigningKeyPOP(
                        new JcaContentVerifierProviderBuilder().setProvider("BC").build(template.getPublicKey())),
                "proof of possession");
        X509CertificateHolder certificate = issue(template.getSubject(), template.getPublicKey());
        CertResponse response = new CertResponse(
                request.toASN1Structure().getCertReq().getCertReqId(),
                new PKIStatusInfo(PKIStatus.granted),
                new CertifiedKeyPair(new CertOrEncCert(new CMPCertificate(certificate.toASN1Structure()))),
                null);
        PBMParameter parameters = PBMParameter.getInstance(header.getProtectionAlg().getParameters());
        return new ProtectedPKIMessageBuilder(new GeneralName(ISSUER), new GeneralName(DEVICE))
                .setMessageTime(new Date())
                .setSenderKID(REFERENCE)
                .setTransactionID(header.getTransactionID().getOctets())
                .setSenderNonce(fresh(16))
                .setRecipNonce(header.getSenderNonce().getOctets())
                .addGeneralInfo(new InfoTypeAndValue(CMPObjectIdentifiers.it_implicitConfirm, DERNull.INSTANCE))
                .setBody(new PKIBody(PKIBody.TYPE_INIT_REP, new CertRepMessage(null, new CertResponse[] {response})))
                .build(macs().setParameters(parameters).build(SECRET))
                .toASN1Structure()
                .getEncoded("DER");
    }

    private void enroll() throws Exception {
        byte[] transaction = fresh(16);
        byte[] nonce = fresh(16);
        ProtectedPKIMessage answer = new ProtectedPKIMessage(new GeneralPKIMessage(handle(request(transaction, nonce))));
        check(answer.verify(macs(), SECRET), "MAC of the answer");
        ASN1OctetString id = answer.getHeader().getTransactionID();
        check(Arrays.equals(id.getOctets(), transaction), "transactionID");
        check(answer.getHeader().getRecipNonce().equals(new DEROctetString(nonce)), "nonce");
        CertResponse response = CertRepMessage.getInstance(answer.getBody().getContent()).getResponse()[0];
        check(response.getStatus().getStatus().intValue() == PKIStatus.GRANTED, "status");
        X509CertificateHolder certificate =
                new X509CertificateHolder(response.getCertifiedKeyPair().getCertOrEncCert().getCertificate().getX509v3PKCert());
        check(certificate.getSubjectPublicKeyInfo().equals(devicePublic), "key");
    }

    public static void main(String[] arguments) throws Exception {
        Security.addProvider(new BouncyCastleProvider());
        int count = Integer.parseInt(arguments[0]);
        int warmUp = Integer.parseInt(arguments[1]);
        BouncyCastle ends = new BouncyCastle();
        ThreadMXBean threads = ManagementFactory.getThreadMXBean();
        for (int index = 0; index < warmUp; index++) {
            ends.enroll();
        }
        BufferedReader rounds = new BufferedReader(new InputStreamReader(System.in));
        while (rounds.readLine() != null) {
            long start = threads.getCurrentThreadCpuTime();
            for (int index = 0; index < count; index++) {
                ends.enroll();
            }
            System.out.println((threads.getCurrentThreadCpuTime() - start) / count / 1000.0);
        }
    }
}
